//! What the gate must never get wrong: its rules against a minute-by-minute oracle, overrides, closing under way,
//! files that change under it, restarts and clocks.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use forebay::{
    clock::{Clock, SetClock, SystemClock},
    gate::{
        Action, Cause, Closure, Gate, GateError, Options, Override, Schedule, Scope, State, Until, evaluate,
        parse_schedule,
    },
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

const ANNOUNCED: &str = r#"
timezone = "America/Chicago"
[[window]]
name   = "ImmTrac2 servers"
start  = "2026-04-24 19:00"
end    = "2026-04-24 22:00"
reason = "System maintenance"
[[window]]
name     = "Monthly patching"
start    = "2026-05-03 02:00"
duration = "3h"
repeat   = "FREQ=MONTHLY;BYDAY=1SU"
routes   = ["immunizations"]
"#;

fn utc(text: &str) -> DateTime<Utc> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M"))
        .unwrap()
        .and_utc()
}

fn schedule(text: &str) -> Schedule {
    parse_schedule(text).unwrap_or_else(|faults| panic!("{}", faults[0]))
}

fn route(name: &str) -> Scope {
    Scope::Route(name.to_owned())
}

fn closed(state: State) -> Closure {
    match state {
        State::Closed(closure) => closure,
        State::Open { .. } => panic!("open"),
    }
}

fn closes_at(state: State) -> Option<DateTime<Utc>> {
    match state {
        State::Open { closes_at } => closes_at,
        State::Closed(closure) => panic!("{closure:?}"),
    }
}

/// One window in Chicago, and the UTC instants that it closes between.
fn window_is(body: &str, from: &str, to: &str) {
    let schedule = schedule(&format!("timezone = \"America/Chicago\"\n[[window]]\n{body}\n"));
    let state = |at| evaluate(&schedule, &[], &Scope::Web, at);
    let (from, to) = (utc(from), utc(to));
    let milli = TimeDelta::milliseconds(1);
    assert_eq!(closes_at(state(from - milli)), Some(from), "{body}");
    for at in [from, to - milli] {
        assert_eq!(closed(state(at)).until, Some(to), "{body}");
        assert_eq!(closed(state(at)).since, Some(from), "{body}");
    }
    assert!(state(to).is_open(), "{body}");
}

#[test]
fn the_announcement() {
    let schedule = schedule(ANNOUNCED);
    let (start, end) = (utc("2026-04-25 00:00"), utc("2026-04-25 03:00"));
    for scope in [Scope::Web, route("immunizations"), route("rest")] {
        let state = |at| evaluate(&schedule, &[], &scope, at);
        assert_eq!(closes_at(state(start - TimeDelta::milliseconds(1))), Some(start));
        let closure = closed(state(start));
        assert_eq!((closure.since, closure.until, closure.cause), (Some(start), Some(end), Cause::Window));
        assert_eq!((closure.name.as_str(), closure.reason.as_str()), ("ImmTrac2 servers", "System maintenance"));
        assert!(state(end).is_open());
    }
}

#[test]
fn the_first_sunday_of_a_month_closes_one_route_and_leaves_the_web_open() {
    let schedule = schedule(ANNOUNCED);
    for day in ["2026-05-03", "2026-06-07", "2027-02-07"] {
        let hour = if day.starts_with("2027") { "09:00" } else { "08:00" };
        let at = utc(&format!("{day} {hour}"));
        assert!(!evaluate(&schedule, &[], &route("immunizations"), at).is_open(), "{day}");
        assert!(evaluate(&schedule, &[], &route("rest"), at).is_open(), "{day}");
        assert!(evaluate(&schedule, &[], &Scope::Web, at).is_open(), "{day}");
    }
    let named = ANNOUNCED.replace("[\"immunizations\"]", "[\"immunizations\", \"web\"]");
    let schedule = parse_schedule(&named).unwrap();
    assert!(!evaluate(&schedule, &[], &Scope::Web, utc("2026-05-03 08:00")).is_open());
}

#[test]
fn one_off_windows_in_the_gap_and_the_fold() {
    // 2026-03-08 02:00 CST becomes 03:00 CDT, at 08:00 UTC.
    window_is("start = \"2026-03-08 02:30\"\nend = \"2026-03-08 05:00\"", "2026-03-08 08:00", "2026-03-08 10:00");
    window_is("start = \"2026-03-08 02:30\"\nduration = \"3h\"", "2026-03-08 08:00", "2026-03-08 11:00");
    window_is("start = \"2026-03-08 01:00\"\nend = \"2026-03-08 02:30\"", "2026-03-08 07:00", "2026-03-08 08:30");
    window_is("start = \"2026-03-08 02:15\"\nend = \"2026-03-08 02:45\"", "2026-03-08 08:00", "2026-03-08 08:45");
    window_is("start = \"2026-03-08 01:00\"\nduration = \"2h\"", "2026-03-08 07:00", "2026-03-08 09:00");
    // 2026-11-01 02:00 CDT becomes 01:00 CST, at 07:00 UTC.
    window_is("start = \"2026-11-01 01:30\"\nend = \"2026-11-01 03:00\"", "2026-11-01 06:30", "2026-11-01 09:00");
    window_is("start = \"2026-11-01 00:00\"\nend = \"2026-11-01 01:30\"", "2026-11-01 05:00", "2026-11-01 07:30");
    window_is("start = \"2026-11-01 01:15\"\nend = \"2026-11-01 01:45\"", "2026-11-01 06:15", "2026-11-01 07:45");
    window_is("start = \"2026-11-01 01:30\"\nduration = \"1h30m\"", "2026-11-01 06:30", "2026-11-01 08:00");
}

#[test]
fn recurring_windows_in_the_gap_and_the_fold() {
    let daily = "timezone = \"America/Chicago\"\n[[window]]\nstart = \"2026-01-01 02:30\"\nend = \"2026-01-01 02:45\"\nrepeat = \"FREQ=DAILY\"";
    let daily = schedule(daily);
    for (from, to) in [
        ("2026-03-07 08:30", "2026-03-07 08:45"),
        ("2026-03-08 08:00", "2026-03-08 08:45"),
        ("2026-03-09 07:30", "2026-03-09 07:45"),
        ("2026-11-01 08:30", "2026-11-01 08:45"),
    ] {
        let before = utc(from) - TimeDelta::seconds(1);
        assert_eq!(closes_at(evaluate(&daily, &[], &Scope::Web, before)), Some(utc(from)));
        assert_eq!(closed(evaluate(&daily, &[], &Scope::Web, utc(from))).until, Some(utc(to)));
    }
    let weekly = "timezone = \"America/Chicago\"\n[[window]]\nstart = \"2026-10-04 01:30\"\nduration = \"15m\"\nrepeat = \"FREQ=WEEKLY\"";
    let weekly = schedule(weekly);
    let state = |at| evaluate(&weekly, &[], &Scope::Web, utc(at));
    assert_eq!(closed(state("2026-11-01 06:30")).until, Some(utc("2026-11-01 06:45")));
    assert!(state("2026-11-01 07:30").is_open());
}

#[test]
fn windows_that_touch_or_overlap_are_one_closure() {
    let text = "timezone = \"UTC\"\n\
        [[window]]\nname = \"a\"\nstart = \"2026-04-24 10:00\"\nend = \"2026-04-24 12:00\"\n\
        [[window]]\nname = \"b\"\nstart = \"2026-04-24 12:00\"\nend = \"2026-04-24 13:00\"\n\
        [[window]]\nname = \"c\"\nstart = \"2026-04-24 12:30\"\nend = \"2026-04-24 14:00\"\n";
    let schedule = schedule(text);
    for (at, name) in [("2026-04-24 10:00", "a"), ("2026-04-24 12:00", "b"), ("2026-04-24 13:30", "c")] {
        let closure = closed(evaluate(&schedule, &[], &Scope::Web, utc(at)));
        assert_eq!((closure.since, closure.until), (Some(utc("2026-04-24 10:00")), Some(utc("2026-04-24 14:00"))));
        assert_eq!(closure.name, name);
    }
}

#[test]
fn every_fault_has_its_key_and_line() {
    let text = "\ntimezone = \"America/Chicagoo\"\nzone = 1\n[[window]]\nstart = \"2026-04-24 19:00\"\nend = \"2026-04-24 18:00\"\n\
        colour = \"red\"\n[[window]]\nend = \"2026-02-30 18:00\"\nroutes = []\n[[window]]\nstart = 5\nduration = \"3 parsecs\"\n\
        [[window]]\nstart = \"2026-04-24 19:00\"\nduration = \"1h\"\nrepeat = \"FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30\"\n";
    let faults = parse_schedule(text).unwrap_err();
    let found: Vec<(usize, &str)> = faults.iter().map(|fault| (fault.line, fault.key.as_str())).collect();
    for expected in [
        (2, "timezone"),
        (3, "zone"),
        (6, "window[0].end"),
        (7, "window[0].colour"),
        (8, "window[1].start"),
        (9, "window[1].end"),
        (10, "window[1].routes"),
        (12, "window[2].start"),
        (13, "window[2].duration"),
        (17, "window[3].repeat"),
    ] {
        assert!(found.contains(&expected), "{expected:?} in {faults:#?}");
    }
    assert_eq!(found.len(), 10, "{faults:#?}");
    assert_eq!(faults[2].to_string(), "maintenance.toml:6: window[0].end: is before its start");
    for text in [
        "",
        "\n \n",
        "# nothing\n",
        "[[window]]\n",
        "timezone = \"UTC\"\n[[window]\n",
        "timezone = \"UTC",
        "window = 1\ntimezone = \"UTC\"",
    ] {
        assert!(parse_schedule(text).is_err(), "{text:?}");
    }
    assert!(parse_schedule(&format!("timezone = \"UTC\"\n{}", "#".repeat(1 << 20))).is_err());
    assert!(parse_schedule("timezone = \"UTC\"\n").is_ok());
    assert!(parse_schedule("timezone = \"UTC\"\n[[window]]\nstart = 2026-04-24 19:00:00\nduration = \"1h\"\n").is_ok());
}

#[test]
fn a_file_full_of_windows_is_read_and_answered_quickly() {
    let mut text = "timezone = \"America/Chicago\"\n".to_owned();
    for number in 0..12_000 {
        let day = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap() + TimeDelta::days(number % 900);
        text.push_str(&format!("[[window]]\nstart = \"{day} 19:00\"\nduration = \"{}m\"\n", 1 + number % 50));
    }
    assert!(text.len() < 1 << 20);
    let house = House::new(&text, "2026-04-24 12:00");
    let clock = SystemClock::new();
    for _ in 0..20_000 {
        assert!(house.gate.admit("any").is_ok());
    }
    assert!(clock.elapsed() < Duration::from_secs(5), "{:?}", clock.elapsed());
    let mut text = "timezone = \"UTC\"\n".to_owned();
    for _ in 0..1_001 {
        text.push_str("[[window]]\nstart = \"2026-04-24 19:00\"\nduration = \"1m\"\nrepeat = \"FREQ=YEARLY\"\n");
    }
    assert!(parse_schedule(&text).unwrap_err()[0].key.contains("window[1000].repeat"));
    let mut text = "timezone = \"UTC\"\n".to_owned();
    for _ in 0..40 {
        text.push_str("[[window]]\nstart = \"2026-04-24 19:00\"\nduration = \"1m\"\nrepeat = \"FREQ=HOURLY\"\n");
    }
    assert!(parse_schedule(&text).unwrap_err()[0].message.contains("times a year"));
}

// The oracle.

/// A window as the oracle knows it: what starts on which local day, found day by day.
struct Plan {
    text: String,
    start: NaiveDateTime,
    length: Long,
    rule: Rule,
    routes: Vec<&'static str>,
}

#[derive(Clone, Copy)]
enum Long {
    Wall(TimeDelta),
    Elapsed(TimeDelta),
}

enum Rule {
    Once,
    Daily { every: i64, count: usize },
    Weekly { days: Vec<u32>, until: NaiveDate },
    NthWeekday { nth: u32, day: u32 },
}

const DAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

impl Plan {
    fn random(random: &mut StdRng, around: NaiveDate) -> Self {
        let start = (around + TimeDelta::days(random.random_range(-3..3))).and_hms_opt(0, 0, 0).unwrap();
        let start = start + TimeDelta::minutes(15 * random.random_range(0..16));
        let minutes = TimeDelta::minutes(*[5, 15, 30, 45, 60, 90, 180, 1500].get(random.random_range(0..8)).unwrap());
        let length = if random.random_bool(0.5) { Long::Wall(minutes) } else { Long::Elapsed(minutes) };
        let rule = match random.random_range(0..5) {
            0 => Rule::Daily { every: random.random_range(1..4), count: random.random_range(1..9) },
            1 => Rule::Weekly {
                days: (0..7).filter(|_| random.random_bool(0.4)).collect(),
                until: around + TimeDelta::days(random.random_range(4..12)),
            },
            2 => Rule::NthWeekday { nth: random.random_range(1..5), day: random.random_range(0..7) },
            _ => Rule::Once,
        };
        let routes = match random.random_range(0..4) {
            0 => vec!["a"],
            1 => vec!["b", "web"],
            _ => vec![],
        };
        let mut plan = Self { text: String::new(), start, length, rule, routes };
        plan.text = plan.toml();
        plan
    }

    fn toml(&self) -> String {
        let form = "%Y-%m-%d %H:%M";
        let mut text = format!("[[window]]\nstart = \"{}\"\n", self.start.format(form));
        match self.length {
            Long::Wall(long) => text.push_str(&format!("end = \"{}\"\n", (self.start + long).format(form))),
            Long::Elapsed(long) => text.push_str(&format!("duration = \"{}m\"\n", long.num_minutes())),
        }
        match &self.rule {
            Rule::Once => {}
            Rule::Daily { every, count } => {
                text.push_str(&format!("repeat = \"FREQ=DAILY;INTERVAL={every};COUNT={count}\"\n"))
            }
            Rule::Weekly { days, until } => {
                let days: Vec<_> = days.iter().map(|day| DAYS[*day as usize]).collect();
                let by = if days.is_empty() { String::new() } else { format!(";BYDAY={}", days.join(",")) };
                text.push_str(&format!("repeat = \"FREQ=WEEKLY{by};UNTIL={}\"\n", until.format("%Y%m%d")));
            }
            Rule::NthWeekday { nth, day } => {
                text.push_str(&format!("repeat = \"FREQ=MONTHLY;BYDAY={nth}{}\"\n", DAYS[*day as usize]));
            }
        }
        if !self.routes.is_empty() {
            text.push_str(&format!("routes = {:?}\n", self.routes));
        }
        text
    }

    fn starts(&self, last: NaiveDate) -> Vec<NaiveDateTime> {
        let mut starts = Vec::new();
        let mut day = self.start.date();
        while day <= last {
            let since = (day - self.start.date()).num_days();
            let weekday = day.weekday().num_days_from_monday();
            let here = match &self.rule {
                Rule::Once => since == 0,
                Rule::Daily { every, count } => since % every == 0 && starts.len() < *count,
                Rule::Weekly { days, until } if days.is_empty() => since % 7 == 0 && day <= *until,
                Rule::Weekly { days, until } => days.contains(&weekday) && day <= *until,
                Rule::NthWeekday { nth, day: wanted } => weekday == *wanted && day.day0() / 7 + 1 == *nth,
            };
            if here {
                starts.push(day.and_time(self.start.time()));
            }
            day = day.succ_opt().unwrap();
        }
        starts
    }
}

/// A table of what the wall shows at every minute.
struct Minutes {
    first: DateTime<Utc>,
    wall: Vec<NaiveDateTime>,
}

impl Minutes {
    fn around(zone: Tz, day: NaiveDate) -> Self {
        let first = day.and_hms_opt(0, 0, 0).unwrap().and_utc() - TimeDelta::days(8);
        let wall = (0..28 * 1440).map(|minute| (first + TimeDelta::minutes(minute)).with_timezone(&zone).naive_local());
        Self { first, wall: wall.collect() }
    }

    /// The first minute at which the wall shows this or more.
    fn start(&self, wall: NaiveDateTime) -> Option<i64> {
        self.wall.iter().position(|shown| *shown >= wall).map(|minute| minute as i64)
    }

    /// The last minute at which the wall shows this or less, and what is missing after it.
    fn end(&self, wall: NaiveDateTime) -> Option<i64> {
        let last = self.wall.iter().rposition(|shown| *shown <= wall)?;
        Some(last as i64 + (wall - self.wall[last]).num_minutes())
    }
}

/// Each scope's closed minutes: (start, end) of what closes it.
fn closings(plans: &[Plan], minutes: &Minutes, scope: &str) -> Vec<(i64, i64)> {
    let last = *minutes.wall.last().unwrap();
    let mut closings = Vec::new();
    for plan in plans.iter().filter(|plan| plan.routes.is_empty() || plan.routes.contains(&scope)) {
        for start in plan.starts(last.date() - TimeDelta::days(3)) {
            let from = minutes.start(start).unwrap();
            let to = match plan.length {
                Long::Elapsed(long) => from + long.num_minutes(),
                Long::Wall(long) => minutes.end(start + long).unwrap(),
            };
            closings.push((from, to));
        }
    }
    closings
}

fn said(overrides: &[Override], scope: &str, closings: &[(i64, i64)], minutes: &Minutes, minute: i64) -> bool {
    let at = minutes.first + TimeDelta::minutes(minute);
    for one in overrides.iter().rev() {
        let concerns = one.scope.is_empty() || one.scope.iter().any(|name| name == scope);
        let over = one.until.is_some_and(|until| until <= at);
        if !concerns || over || (one.action == Action::Open && at < one.from) {
            continue;
        }
        if one.action != Action::Open {
            return true;
        }
        let given = (one.at - minutes.first).num_minutes();
        return closings.iter().any(|(from, to)| *from <= minute && minute < *to && *from > given);
    }
    closings.iter().any(|(from, to)| *from <= minute && minute < *to)
}

fn random_overrides(random: &mut StdRng, minutes: &Minutes) -> Vec<Override> {
    let mut overrides = Vec::new();
    for id in 0..random.random_range(0..4) {
        let at = minutes.first + TimeDelta::minutes(random.random_range(5 * 1440..12 * 1440));
        let action = [Action::Close, Action::Extend, Action::Open][random.random_range(0..3)];
        let until = random.random_bool(0.8).then(|| at + TimeDelta::minutes(random.random_range(1..600)));
        let scope = [vec![], vec!["a".to_owned()], vec!["web".to_owned()]][random.random_range(0..3)].clone();
        overrides.push(Override {
            id,
            action,
            scope,
            at,
            from: at - TimeDelta::minutes(random.random_range(0..90)),
            until,
            name: String::new(),
            reason: "random".to_owned(),
            message: String::new(),
            actor: "test".to_owned(),
            broken: false,
        });
    }
    overrides
}

#[test]
fn random_schedules_agree_with_a_minute_by_minute_oracle() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let zones = [
        ("America/Chicago", (2026, 3, 8)),
        ("America/Chicago", (2026, 11, 1)),
        ("Australia/Lord_Howe", (2026, 4, 5)),
        ("Australia/Lord_Howe", (2026, 10, 4)),
        ("Europe/Berlin", (2026, 3, 29)),
        ("Africa/Cairo", (2026, 4, 24)),
    ];
    let mut checked = 0;
    for _ in 0..80 {
        let (zone, (year, month, day)) = zones[random.random_range(0..zones.len())];
        let day = NaiveDate::from_ymd_opt(year, month, day).unwrap();
        let minutes = Minutes::around(zone.parse().unwrap(), day);
        let plans: Vec<Plan> = (0..random.random_range(1..4)).map(|_| Plan::random(&mut random, day)).collect();
        let overrides = random_overrides(&mut random, &minutes);
        let text = plans.iter().fold(format!("timezone = \"{zone}\"\n"), |text, plan| text + &plan.text);
        let Ok(schedule) = parse_schedule(&text) else {
            // The one rule that may yield nothing here is a weekly one that ends before its first day.
            assert!(text.contains("UNTIL"), "{text}");
            continue;
        };
        for (name, scope) in [("a", route("a")), ("b", route("b")), ("c", route("c")), ("web", Scope::Web)] {
            let closings = closings(&plans, &minutes, name);
            let oracle: Vec<bool> =
                (0..20 * 1440).map(|minute| said(&overrides, name, &closings, &minutes, minute)).collect();
            let turns: Vec<usize> = (1..oracle.len()).filter(|minute| oracle[*minute] != oracle[*minute - 1]).collect();
            for turn in 0..30 {
                // Half of the instants are where something turns.
                let minute = match turns.len() {
                    0 => random.random_range(1440..12 * 1440),
                    many if turn % 2 == 0 => (turns[random.random_range(0..many)] - turn / 2 % 2).max(1),
                    _ => random.random_range(5 * 1440..12 * 1440),
                };
                let at = minutes.first
                    + TimeDelta::minutes(minute as i64)
                    + TimeDelta::milliseconds(random.random_range(0..60_000));
                let next = (minute..oracle.len()).find(|other| oracle[*other] != oracle[minute]);
                let next = next.map(|minute| minutes.first + TimeDelta::minutes(minute as i64));
                let state = evaluate(&schedule, &overrides, &scope, at);
                checked += 1;
                assert_eq!(state.is_open(), !oracle[minute], "SEED={seed} {name} {at}\n{text}\n{overrides:#?}");
                let said = match state {
                    State::Open { closes_at } => closes_at,
                    State::Closed(closure) => closure.until,
                };
                if next.is_some() {
                    assert_eq!(said, next, "SEED={seed} {name} {at} next\n{text}\n{overrides:#?}");
                }
            }
        }
    }
    assert!(checked > 4_000, "{checked}");
}

// The live gate.

/// A clock whose wall stands where it is put while monotonic time goes on.
#[derive(Debug)]
struct RealTime {
    wall: DateTime<Utc>,
    system: SystemClock,
}

impl Clock for RealTime {
    fn now(&self) -> DateTime<Utc> {
        self.wall
    }

    fn elapsed(&self) -> Duration {
        self.system.elapsed()
    }
}

struct House {
    dir: TempDir,
    clock: SetClock,
    gate: Arc<Gate>,
}

impl House {
    fn new(schedule: &str, now: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("maintenance.toml"), schedule).unwrap();
        Self::on(dir, now)
    }

    fn on(dir: TempDir, now: &str) -> Self {
        let clock = SetClock::new(utc(now));
        let gate = open(dir.path(), Arc::new(clock.clone()), None);
        Self { dir, clock, gate }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("maintenance.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.file(), text).unwrap();
        let _ = self.gate.reload();
    }

    fn stand_still(&self) {
        self.gate.tick();
        self.clock.advance(Duration::from_secs(2));
        self.gate.tick();
    }

    fn restart(self) -> Self {
        let Self { dir, clock, gate } = self;
        drop(gate);
        let gate = open(dir.path(), Arc::new(clock.clone()), None);
        Self { dir, clock, gate }
    }

    fn open_for(&self, name: &str) -> bool {
        let is = self.gate.state(&route(name)).is_open();
        assert_eq!(is, self.gate.admit(name).is_ok());
        is
    }
}

fn open(dir: &Path, clock: Arc<dyn Clock>, newest: Option<DateTime<Utc>>) -> Arc<Gate> {
    let options = Options { file: Some(dir.join("maintenance.toml")), ..Options::default() };
    Gate::open(&dir.join("gate"), options, clock, newest).unwrap()
}

fn close(gate: &Gate, scope: &[&str], until: Option<&str>) -> Override {
    let scope = scope.iter().map(|name| (*name).to_owned()).collect();
    gate.close(scope, until.map(utc), "storage".to_owned(), None, "ann".to_owned()).unwrap()
}

fn reopen(gate: &Gate, scope: &[&str]) -> Result<Override, GateError> {
    gate.reopen(scope.iter().map(|name| (*name).to_owned()).collect(), "early".to_owned(), "ann".to_owned())
}

const EMPTY: &str = "timezone = \"America/Chicago\"\n";
const TWO: &str = "timezone = \"UTC\"\n\
    [[window]]\nname = \"first\"\nstart = \"2026-04-24 10:00\"\nend = \"2026-04-24 12:00\"\n\
    [[window]]\nname = \"next\"\nstart = \"2026-04-24 12:00\"\nend = \"2026-04-24 13:00\"\n\
    [[window]]\nname = \"within\"\nstart = \"2026-04-24 11:30\"\nend = \"2026-04-24 11:40\"\n";

#[test]
fn opening_ends_with_the_closure_and_never_leaks_the_next_window() {
    let house = House::new(TWO, "2026-04-24 10:30");
    assert!(!house.open_for("x"));
    let opened = reopen(&house.gate, &[]).unwrap();
    assert_eq!(opened.until, Some(utc("2026-04-24 12:00")));
    assert!(house.open_for("x"));
    assert!(matches!(reopen(&house.gate, &[]), Err(GateError::NothingClosed)));
    assert_eq!(closes_at(house.gate.state(&Scope::Web)), Some(utc("2026-04-24 11:30")));
    let mut house = house;
    for (at, is_open) in [
        ("2026-04-24 11:29", true),
        ("2026-04-24 11:30", false),
        ("2026-04-24 11:39", false),
        ("2026-04-24 11:40", true),
        ("2026-04-24 11:59:59.999", true),
        ("2026-04-24 12:00", false),
        ("2026-04-24 12:59", false),
        ("2026-04-24 13:00", true),
        // A clock that is set back finds the windows of its time.
        ("2026-04-24 10:15", true),
        ("2025-04-24 10:15", true),
    ] {
        house.clock.jump_to(utc(at));
        assert_eq!(house.open_for("x"), is_open, "{at}");
        house = house.restart();
        assert_eq!(house.open_for("x"), is_open, "{at} after a restart");
    }
}

#[test]
fn an_opening_does_not_reach_back_to_windows_before_it() {
    let text =
        "timezone = \"UTC\"\n[[window]]\nstart = \"2026-01-01 10:00\"\nduration = \"2h\"\nrepeat = \"FREQ=DAILY\"\n";
    let house = House::new(text, "2026-04-24 11:00");
    reopen(&house.gate, &[]).unwrap();
    assert!(house.open_for("x"));
    house.clock.jump_to(utc("2026-04-23 11:00"));
    assert!(!house.open_for("x"));
    house.clock.jump_to(utc("2026-04-25 11:00"));
    assert!(!house.open_for("x"));
}

#[test]
fn extending_moves_the_end_and_nothing_else() {
    let house = House::new(TWO, "2026-04-24 12:30");
    let extended =
        house.gate.extend(Until::By(Duration::from_secs(3_600)), "slow".to_owned(), "ann".to_owned()).unwrap();
    assert_eq!(extended.until, Some(utc("2026-04-24 14:00")));
    let closure = closed(house.gate.state(&Scope::Web));
    assert_eq!(closure.until, Some(utc("2026-04-24 14:00")));
    assert_eq!(closure.name, "next");
    let early = house.gate.extend(Until::At(utc("2026-04-24 13:30")), "slow".to_owned(), "ann".to_owned());
    assert!(matches!(early, Err(GateError::TooEarly { .. })));
    let house = house.restart();
    house.clock.jump_to(utc("2026-04-24 13:59:59"));
    assert!(!house.open_for("x"));
    house.clock.jump_to(utc("2026-04-24 14:00"));
    assert!(house.open_for("x"));
    let nothing = house.gate.extend(Until::By(Duration::from_secs(1)), "slow".to_owned(), "ann".to_owned());
    assert!(matches!(nothing, Err(GateError::NothingClosed)));
    let huge = House::new(TWO, "2026-04-24 12:30");
    let _ = huge.gate.extend(Until::By(Duration::from_secs(u64::MAX / 1_000)), "slow".to_owned(), "ann".to_owned());
    assert!(!huge.open_for("x"));
}

#[test]
fn extending_what_is_closed_for_one_route_leaves_the_others_alone() {
    let house = House::new(ANNOUNCED, "2026-05-03 08:00");
    let extended = house.gate.extend(Until::By(Duration::from_secs(60)), "slow".to_owned(), "ann".to_owned()).unwrap();
    assert_eq!(extended.scope, ["immunizations"]);
    house.clock.jump_to(utc("2026-05-03 10:00:30"));
    assert!(!house.open_for("immunizations") && house.open_for("rest") && house.gate.state(&Scope::Web).is_open());
}

#[test]
fn the_latest_override_wins_in_its_scope() {
    let house = House::new(EMPTY, "2026-04-24 12:00");
    close(&house.gate, &[], None);
    assert!(!house.open_for("a") && !house.open_for("b") && !house.gate.state(&Scope::Web).is_open());
    assert_eq!(closed(house.gate.state(&route("a"))).until, None);
    reopen(&house.gate, &["a"]).unwrap();
    assert!(house.open_for("a") && !house.open_for("b"));
    close(&house.gate, &["a"], Some("2026-04-24 13:00"));
    assert!(!house.open_for("a"));
    let house = house.restart();
    assert!(!house.open_for("a") && !house.open_for("b"));
    reopen(&house.gate, &[]).unwrap();
    assert!(house.open_for("a") && house.open_for("b") && house.gate.state(&Scope::Web).is_open());
    let one = close(&house.gate, &["a"], None);
    assert!(house.gate.state(&Scope::Web).is_open() && house.open_for("b") && !house.open_for("a"));
    // An override that closes does not depend on when it was given.
    house.clock.jump_to(utc("2025-04-24 12:00"));
    assert!(!house.open_for("a"));
    assert!(matches!(house.gate.clear(Some(999), "ann"), Err(GateError::NoSuchOverride(999))));
    house.gate.clear(Some(one.id), "ann").unwrap();
    assert!(house.open_for("a"));
    assert!(house.gate.close(vec![], Some(utc("2020-01-01 00:00")), "x".to_owned(), None, "ann".to_owned()).is_err());
    assert!(house.gate.close(vec![], None, " ".to_owned(), None, "ann".to_owned()).is_err());
}

#[test]
fn every_change_raises_the_epoch_and_wakes_who_waits() {
    let house = House::new(EMPTY, "2026-04-24 12:00");
    let mut changed = house.gate.changed();
    let mut last = house.gate.epoch();
    let mut rises = |what: &str| {
        assert!(house.gate.epoch() > last, "{what}");
        assert!(changed.has_changed().unwrap(), "{what}");
        last = *changed.borrow_and_update();
        assert_eq!(last, house.gate.epoch(), "{what}");
    };
    close(&house.gate, &["a"], None);
    rises("close");
    reopen(&house.gate, &["a"]).unwrap();
    rises("open");
    house.gate.clear(None, "ann").unwrap();
    rises("clear");
    house.write(TWO);
    rises("schedule");
    house.clock.jump_to(utc("2025-04-24 12:00"));
    house.gate.tick();
    rises("a jump of the clock");
    let before = house.gate.epoch();
    assert!(house.restart().gate.epoch() > 0 && before > 0);
}

#[test]
fn a_claim_at_the_last_millisecond_is_not_handed_over_in_the_window() {
    let house = House::new(ANNOUNCED, "2026-04-24 23:59:59.999");
    let start = utc("2026-04-25 00:00");
    let permit = house.gate.admit("rest").unwrap();
    assert_eq!(permit.closes_at(), Some(start));
    assert!(house.gate.pass(&permit).is_ok());
    house.clock.jump_to(start);
    assert_eq!(house.gate.pass(&permit).unwrap_err().until, Some(utc("2026-04-25 03:00")));
    assert!(house.gate.admit("rest").is_err());
    house.clock.jump_to(utc("2026-04-25 03:00"));
    assert!(house.gate.pass(&permit).is_ok(), "what was claimed before may go on after");
}

#[test]
fn draining_stops_claims_early_and_leaves_the_web_open() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.toml"), ANNOUNCED).unwrap();
    let options: Options = toml::from_str("drain = \"1m\"\nat_close = \"finish\"").unwrap();
    let options = Options { file: Some(dir.path().join("m.toml")), ..options };
    let clock = SetClock::new(utc("2026-04-24 23:58:59.999"));
    let gate = Gate::open(dir.path(), options, Arc::new(clock.clone()), None).unwrap();
    assert_eq!(gate.admit("rest").unwrap().closes_at(), Some(utc("2026-04-24 23:59")));
    clock.advance(Duration::from_millis(1));
    assert!(gate.admit("rest").is_err() && gate.state(&Scope::Web).is_open());
    reopen(&gate, &[]).unwrap();
    assert!(gate.admit("rest").is_ok());
    clock.jump_to(utc("2026-04-25 02:59"));
    assert!(gate.admit("rest").is_ok());
    assert!(toml::from_str::<Options>("drian = \"1m\"").is_err());
}

/// Ends the threads of a test also when it fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// After `close` has returned no `pass` succeeds, and none that had begun is still beginning.
#[test]
fn closing_waits_for_hand_overs_that_begin_and_lets_none_begin_after() {
    for round in 0..60 {
        let house = House::new(EMPTY, "2026-04-24 12:00");
        let shut = AtomicBool::new(false);
        let beginning = AtomicU64::new(0);
        let passed = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let _ends = Ends(&stop);
            for number in 0..4 {
                let (gate, shut, beginning, passed, stop) = (&house.gate, &shut, &beginning, &passed, &stop);
                let name = format!("route-{number}");
                let mut permit = gate.admit(&name).unwrap();
                scope.spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        permit = gate.admit(&name).unwrap_or(permit);
                        let known = shut.load(Ordering::SeqCst);
                        if let Ok(passage) = gate.pass(&permit) {
                            assert!(!known, "a hand-over began after the gate was closed");
                            beginning.fetch_add(1, Ordering::SeqCst);
                            thread::yield_now();
                            std::hint::black_box((0..200).sum::<u64>());
                            beginning.fetch_sub(1, Ordering::SeqCst);
                            drop(passage);
                            passed.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
            wait_for(|| passed.load(Ordering::SeqCst) >= 50);
            if round % 2 == 0 {
                close(&house.gate, &[], None);
            } else {
                close(&house.gate, &["route-0", "route-1", "route-2", "route-3"], Some("2026-04-24 13:00"));
            }
            assert_eq!(beginning.load(Ordering::SeqCst), 0, "a hand-over was still beginning");
            shut.store(true, Ordering::SeqCst);
            let before = passed.load(Ordering::SeqCst);
            for _ in 0..200 {
                thread::yield_now();
            }
            stop.store(true, Ordering::SeqCst);
            // The last of those that had passed before may only have been counted now.
            assert!(passed.load(Ordering::SeqCst) <= before + 4);
        });
    }
}

#[test]
fn what_a_change_closes_is_closed_at_once_and_what_it_opens_waits() {
    let house = House::new(EMPTY, "2026-04-24 10:30");
    assert!(house.open_for("x"));
    house.write(TWO);
    assert!(!house.open_for("x"));
    assert!(house.gate.status().schedule.pending);
    house.stand_still();
    assert!(!house.open_for("x") && !house.gate.status().schedule.pending);
    house.write(EMPTY);
    assert!(!house.open_for("x"));
    house.clock.advance(Duration::from_millis(1_900));
    house.gate.tick();
    assert!(!house.open_for("x"));
    // It moves again: the two seconds begin anew.
    house.write("timezone = \"UTC\"\n");
    house.clock.advance(Duration::from_millis(1_900));
    house.gate.tick();
    assert!(!house.open_for("x"));
    house.clock.advance(Duration::from_millis(100));
    house.gate.tick();
    assert!(house.open_for("x"));
}

#[test]
fn what_a_change_closed_stays_closed_while_the_file_is_broken() {
    let house = House::new(EMPTY, "2026-04-24 10:30");
    house.write(TWO);
    house.write("");
    assert!(!house.open_for("x"), "truncated before it was good for long enough");
    house.write(TWO);
    house.stand_still();
    assert!(!house.open_for("x"));
}

/// What the gate remembers to be fast is what it would find anew.
#[test]
fn the_live_gate_agrees_with_the_function_whatever_the_clock_does() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let house = House::new(
        &format!("{ANNOUNCED}[[window]]\nstart = \"2026-04-01 01:30\"\nduration = \"50m\"\nrepeat = \"FREQ=DAILY\"\n"),
        "2026-04-20 10:30",
    );
    let schedule = schedule(&fs::read_to_string(house.file()).unwrap());
    for step in 0..500 {
        match random.random_range(0..20) {
            0 => house.clock.jump_to(utc("2026-04-18 00:00") + TimeDelta::minutes(random.random_range(0..30 * 1440))),
            1 => drop(house.gate.close(
                vec![],
                Some(house.clock.now() + TimeDelta::minutes(40)),
                "x".into(),
                None,
                "a".into(),
            )),
            2 => drop(reopen(&house.gate, &[])),
            3 => drop(house.gate.clear(None, "a")),
            _ => house.clock.advance(Duration::from_millis(random.random_range(0..3_000_000))),
        }
        let scope = if step % 2 == 0 { Scope::Web } else { route("immunizations") };
        let now = house.clock.now();
        assert_eq!(
            house.gate.state(&scope),
            evaluate(&schedule, &house.gate.overrides(), &scope, now),
            "SEED={seed} {now}"
        );
    }
}

#[test]
fn a_broken_schedule_is_refused_and_the_last_good_one_survives_restarts() {
    let mut house = House::new(TWO, "2026-04-24 10:30");
    for text in [
        "",
        "timezone = \"UTC\"\n[[window",
        "[[window]]\n",
        "timezone = \"Mars/Base\"\n",
        "\0",
        "timezone = \"UTC\"\nx = 1",
    ] {
        fs::write(house.file(), text).unwrap();
        let faults = house.gate.reload().unwrap_err();
        assert!(faults[0].to_string().starts_with("maintenance.toml:"), "{}", faults[0]);
        for _ in 0..2 {
            house.stand_still();
            house.clock.jump_to(utc("2026-04-24 10:30"));
            assert_eq!(closed(house.gate.state(&route("x"))).name, "first", "{text:?}");
            house.clock.jump_to(utc("2026-04-24 13:00"));
            assert!(house.open_for("x"), "{text:?}");
            assert!(!house.gate.status().schedule.faults.is_empty());
            house = house.restart();
        }
    }
    fs::remove_file(house.file()).unwrap();
    assert!(house.gate.reload().is_err());
    house = house.restart();
    house.clock.jump_to(utc("2026-04-24 10:30"));
    assert_eq!(closed(house.gate.state(&route("x"))).cause, Cause::Window);
    assert!(house.gate.status().schedule.faults[0].message.contains("missing"));
    house.write(EMPTY);
    house.stand_still();
    assert!(house.open_for("x"));
    assert!(house.gate.status().schedule.faults.is_empty());
    assert!(house.restart().open_for("x"));
}

#[test]
fn at_the_first_start_nothing_means_no_windows_and_nonsense_means_closed() {
    let house = House::on(tempfile::tempdir().unwrap(), "2026-04-24 10:30");
    assert!(house.open_for("x"));
    let house = house.restart();
    assert!(house.open_for("x") && house.gate.status().schedule.faults.is_empty());
    let mut house = House::new("", "2026-04-24 10:30");
    for _ in 0..2 {
        assert_eq!(closed(house.gate.state(&route("x"))).cause, Cause::BrokenSchedule);
        assert_eq!(closed(house.gate.state(&Scope::Web)).until, None);
        house = house.restart();
    }
    fs::remove_file(house.file()).unwrap();
    house.stand_still();
    assert!(!house.restart_in_place(), "gone after having been there is broken as well");
}

impl House {
    fn restart_in_place(&self) -> bool {
        let gate = open(self.dir.path(), Arc::new(self.clock.clone()), None);
        gate.state(&route("x")).is_open()
    }
}

#[test]
fn an_operator_can_open_while_the_schedule_is_broken_until_it_is_good() {
    let house = House::new("", "2026-04-24 10:30");
    reopen(&house.gate, &[]).unwrap();
    let house = house.restart();
    assert!(house.open_for("x"));
    house.write(TWO);
    house.stand_still();
    assert_eq!(closed(house.gate.state(&route("x"))).name, "first");
    assert!(house.gate.overrides().is_empty());
}

/// An editor that truncates and then writes, and a gate that looks all the time.
#[test]
fn an_editor_that_truncates_and_writes_never_opens_the_gate() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("maintenance.toml");
    fs::write(&file, TWO).unwrap();
    let clock = RealTime { wall: utc("2026-04-24 10:30"), system: SystemClock::new() };
    let gate = open(dir.path(), Arc::new(clock), None);
    let stop = AtomicBool::new(false);
    let looks = AtomicU64::new(0);
    thread::scope(|scope| {
        let _ends = Ends(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                gate.tick();
                assert!(!gate.state(&route("x")).is_open(), "the gate leaked");
                looks.fetch_add(1, Ordering::SeqCst);
            }
        });
        for round in 0..100 {
            fs::write(&file, "").unwrap();
            wait_for(|| !gate.status().schedule.faults.is_empty());
            // A part that is good by itself, but without the windows.
            fs::write(&file, "timezone = \"UTC\"\n").unwrap();
            wait_for(|| gate.status().schedule.pending);
            fs::write(&file, format!("{TWO}# {round}\n")).unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(looks.load(Ordering::SeqCst) > 100);
    fs::write(&file, EMPTY).unwrap();
    let clock = SystemClock::new();
    wait_for(|| {
        gate.tick();
        gate.state(&route("x")).is_open()
    });
    assert!(clock.elapsed() >= Duration::from_millis(1_900), "{:?}", clock.elapsed());
}

/// The system's events alone, without a tick.
#[test]
fn a_change_of_the_file_is_noticed_by_itself() {
    let house = House::new(EMPTY, "2026-04-24 10:30");
    fs::write(house.dir.path().join("new"), TWO).unwrap();
    fs::rename(house.dir.path().join("new"), house.file()).unwrap();
    wait_for(|| !house.gate.state(&route("x")).is_open());
}

fn wait_for(mut state: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !state() {
        assert!(clock.elapsed() < Duration::from_secs(20), "waited too long");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_clock_behind_the_journal_closes_until_it_catches_up_or_is_confirmed() {
    let newest = utc("2026-04-24 12:00");
    let start = |dir: &Path, now: &str| {
        let clock = SetClock::new(utc(now));
        (open(dir, Arc::new(clock.clone()), Some(newest)), clock)
    };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("maintenance.toml"), EMPTY).unwrap();
    assert!(start(dir.path(), "2026-04-24 11:59:00").0.admit("x").is_ok(), "a minute is forgiven");
    let (gate, clock) = start(dir.path(), "2025-04-24 12:00");
    assert_eq!(gate.admit("x").unwrap_err().cause, Cause::UntrustedClock);
    assert_eq!(closed(gate.state(&Scope::Web)).until, Some(newest));
    assert!(!gate.status().clock_trusted);
    clock.jump_to(newest);
    gate.tick();
    assert!(gate.admit("x").is_ok() && gate.status().clock_trusted);
    let (gate, _) = start(dir.path(), "2025-04-24 12:00");
    gate.confirm_clock("ann").unwrap();
    assert!(gate.admit("x").is_ok());
    let (gate, _) = start(dir.path(), "2025-04-24 12:10");
    assert!(gate.admit("x").is_ok(), "confirmed is confirmed for the same record");
    let other = tempfile::tempdir().unwrap();
    let (gate, _) = start(other.path(), "2025-04-24 12:00");
    reopen(&gate, &[]).unwrap();
    assert!(gate.admit("x").is_ok(), "opening confirms the clock as well");
}

/// A gate on a machine that counts time since it was started, in the first of two windows that touch.
struct Machine {
    dir: TempDir,
    clock: SetClock,
    gate: Arc<Gate>,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("maintenance.toml"), TWO).unwrap();
        let clock = SetClock::new(utc("2026-04-24 10:30")).booted("first");
        let gate = open(dir.path(), Arc::new(clock.clone()), None);
        Self { dir, clock, gate }
    }

    fn restart(&mut self, boot: &str) {
        self.clock = self.clock.booted(boot);
        self.gate = open(self.dir.path(), Arc::new(self.clock.clone()), None);
    }

    fn cause(&self) -> Option<Cause> {
        let state = self.gate.state(&route("x"));
        assert_eq!(state.is_open(), self.gate.admit("x").is_ok());
        assert_eq!(state.is_open(), self.gate.must_stop("x").is_none());
        match state {
            State::Closed(closure) => Some(closure.cause),
            State::Open { .. } => None,
        }
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.gate.tick();
    }
}

#[test]
fn a_clock_that_jumps_out_of_a_window_opens_nothing_until_it_has_stood() {
    let mut machine = Machine::new();
    assert_eq!(machine.cause(), Some(Cause::Window));
    machine.clock.jump_to(utc("2026-04-24 14:00"));
    // At once: no hand-over may begin before the next tick.
    assert_eq!(machine.cause(), Some(Cause::UnsettledClock));
    machine.pass(1);
    let status = machine.gate.status();
    assert!(!status.clock_trusted);
    assert_eq!(status.clock_jumped.map(|jumped| jumped.seconds), Some(3 * 3_600 + 30 * 60));
    assert_eq!(closed(machine.gate.state(&route("x"))).until, Some(utc("2026-04-24 14:05:01")));
    assert_eq!(machine.gate.believed(), utc("2026-04-24 10:30:01"));
    machine.pass(200);
    machine.restart("first");
    assert_eq!(machine.cause(), Some(Cause::UnsettledClock), "a restart knows of it");
    machine.pass(98);
    assert_eq!(machine.cause(), Some(Cause::UnsettledClock));
    machine.pass(3);
    assert_eq!(machine.cause(), None, "and it has stood for five minutes, before and after the restart");
    assert!(machine.gate.status().clock_trusted);
    assert_eq!(machine.gate.believed(), machine.clock.now());
}

#[test]
fn a_clock_that_jumps_again_has_to_stand_again() {
    let machine = Machine::new();
    machine.clock.jump_to(utc("2026-04-24 14:00"));
    machine.pass(1);
    machine.pass(298);
    machine.clock.jump_to(utc("2026-04-24 15:00"));
    machine.pass(1);
    machine.pass(298);
    assert_eq!(machine.cause(), Some(Cause::UnsettledClock), "what the first stood for counts no more");
    machine.pass(2);
    assert_eq!(machine.cause(), None);
}

#[test]
fn a_clock_that_jumps_is_believed_when_it_is_confirmed_synchronized_or_of_another_boot() {
    let jumped = || {
        let machine = Machine::new();
        machine.clock.jump_to(utc("2026-04-24 14:00"));
        machine.gate.tick();
        assert_eq!(machine.cause(), Some(Cause::UnsettledClock));
        machine
    };
    let mut machine = jumped();
    machine.gate.confirm_clock("ann").unwrap();
    assert_eq!(machine.cause(), None);
    machine.restart("first");
    assert_eq!(machine.cause(), None);
    let machine = jumped();
    machine.clock.synchronize();
    machine.gate.tick();
    assert_eq!(machine.cause(), None);
    let machine = jumped();
    reopen(&machine.gate, &[]).unwrap();
    assert_eq!(machine.cause(), None, "opening confirms the clock as well");
    let mut machine = jumped();
    machine.restart("second");
    assert_eq!(machine.cause(), None, "nothing is known of the time between two boots");
    let machine = jumped();
    machine.clock.jump_to(utc("2026-04-24 10:31"));
    machine.gate.tick();
    assert_eq!(machine.cause(), Some(Cause::Window), "it was set back");
    assert!(machine.gate.status().clock_trusted);
}

#[test]
fn a_clock_that_jumps_closes_at_once_whichever_way() {
    // Into a window.
    let machine = Machine::new();
    machine.gate.confirm_clock("ann").unwrap();
    machine.clock.jump_to(utc("2026-04-24 09:00"));
    assert_eq!(machine.cause(), Some(Cause::UnsettledClock), "back before the window's start: it opens nothing either");
    machine.gate.confirm_clock("ann").unwrap();
    assert_eq!(machine.cause(), None);
    machine.clock.jump_to(utc("2026-04-24 12:30"));
    assert_eq!(machine.cause(), Some(Cause::Window));
    // Out of a window by no more than a minute, as a clock is set that was a little wrong.
    let machine = Machine::new();
    machine.pass(2 * 3_600 + 29 * 60 + 30);
    assert_eq!(machine.cause(), Some(Cause::Window));
    machine.clock.jump_to(utc("2026-04-24 13:00:20"));
    assert_eq!(machine.cause(), None);
    // What stays open on both clocks closes when the first of them says so.
    let machine = Machine::new();
    machine.gate.confirm_clock("ann").unwrap();
    machine.pass(3 * 3_600);
    machine.clock.jump_to(utc("2026-04-24 09:58"));
    machine.gate.tick();
    let closes_at = |machine: &Machine| match machine.gate.state(&route("x")) {
        State::Open { closes_at } => closes_at,
        State::Closed(closure) => panic!("{closure:?}"),
    };
    assert_eq!(closes_at(&machine), Some(utc("2026-04-24 10:00")));
    machine.gate.confirm_clock("ann").unwrap();
    machine.clock.jump_to(utc("2026-04-24 14:00"));
    machine.gate.tick();
    assert_eq!(closes_at(&machine), Some(utc("2026-04-24 14:02")), "when it would have been 10:00");
}

#[test]
fn a_wall_clock_that_jumps_is_followed_both_ways() {
    let house = House::new(ANNOUNCED, "2026-04-25 01:00");
    assert!(!house.open_for("x"));
    house.clock.jump_to(utc("2025-04-25 01:00"));
    assert!(house.open_for("x"));
    house.gate.tick();
    assert_eq!(house.gate.next_change(), Some(utc("2026-04-25 00:00")));
    house.clock.jump_to(utc("2026-04-25 02:59:59"));
    assert!(!house.open_for("x"));
    house.clock.jump_to(utc("2030-04-25 02:59:59"));
    assert!(house.open_for("x"));
}

#[test]
fn a_damaged_memory_is_an_error_and_not_an_open_gate() {
    let house = House::new(EMPTY, "2026-04-24 12:00");
    close(&house.gate, &[], None);
    let state = house.dir.path().join("gate/state.json");
    let padded = fs::read_to_string(&state).unwrap();
    let whole = padded.trim_end();
    let options = || Options { file: None, ..Options::default() };
    let again = || Gate::open(&house.dir.path().join("gate"), options(), Arc::new(house.clock.clone()), None);
    fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(again(), Err(GateError::Damaged { .. })));
    fs::write(&state, whole.replace("\"version\": 1", "\"version\": 2")).unwrap();
    assert!(matches!(again(), Err(GateError::Newer { version: 2, .. })));
    fs::write(&state, whole).unwrap();
    assert!(again().unwrap().admit("x").is_err());
}

#[test]
fn closing_holds_even_when_it_cannot_be_stored() {
    let house = House::new(EMPTY, "2026-04-24 12:00");
    // A directory stands where the new state would be written.
    fs::remove_file(house.dir.path().join("gate/state.json.new")).unwrap();
    fs::create_dir(house.dir.path().join("gate/state.json.new")).unwrap();
    let not_kept = house.gate.close(vec![], None, "x".to_owned(), None, "ann".to_owned()).unwrap_err();
    assert!(not_kept.to_string().starts_with("the gate is closed, but not beyond a restart"), "{not_kept}");
    assert!(!house.open_for("x"));
    assert!(reopen(&house.gate, &[]).is_err());
    assert!(!house.open_for("x"));
}

#[test]
fn what_partners_and_operators_read() {
    let house = House::new(ANNOUNCED, "2026-04-20 12:00");
    let gate = &house.gate;
    let notice = gate.notice(&["rest".to_owned()]).unwrap();
    assert!(notice.contains("2026-04-24 19:00 CDT") && notice.contains("2026-04-24 22:00 CDT"), "{notice}");
    assert!(notice.contains("System maintenance"), "{notice}");
    assert_eq!(gate.deferral("rest"), None);
    house.clock.jump_to(utc("2026-04-25 01:00"));
    assert_eq!(gate.deferral("rest").unwrap(), "processing deferred until 22:00 CDT");
    assert!(gate.notice(&[]).unwrap().contains("MAINTENANCE NOW: ImmTrac2 servers"));
    let told = Some("Please come back later.".to_owned());
    let by_hand = gate.close(vec![], None, "Bob dropped the table".to_owned(), told, "ann".to_owned()).unwrap();
    let notice = gate.notice(&["rest".to_owned()]).unwrap();
    assert!(notice.starts_with("MAINTENANCE NOW\n") && notice.contains("come back later"), "{notice}");
    assert!(!notice.contains("Bob") && !notice.contains("operator"), "operators' words are theirs: {notice}");
    gate.clear(Some(by_hand.id), "ann").unwrap();
    assert_eq!(gate.local(utc("2026-04-26 03:00")), "2026-04-25 22:00 CDT");
    house.clock.jump_to(utc("2026-04-25 03:00"));
    assert_eq!(gate.notice(&["rest".to_owned()]), None);
    let spans = gate.simulate(utc("2026-04-24 00:00"), utc("2026-06-08 00:00"));
    let of = |name: &str| spans.iter().filter(|span| span.scope == name).count();
    assert_eq!((of("web"), of("*"), of("immunizations")), (1, 1, 3), "{spans:#?}");
    let upcoming = gate.upcoming(utc("2026-04-24 00:00"), utc("2026-06-08 00:00"));
    assert_eq!(upcoming.len(), 3);
    assert_eq!(upcoming[1].start_local, "2026-05-03 02:00 CDT");
    let feed = gate.calendar();
    assert!(feed.starts_with("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n") && feed.ends_with("END:VCALENDAR\r\n"));
    assert!(
        feed.contains("DTSTART:20260503T070000Z\r\nDTEND:20260503T100000Z\r\nSUMMARY:Monthly patching\r\n"),
        "{feed}"
    );
    assert!(feed.lines().all(|line| line.len() <= 75));
    let status = serde_json::to_value(gate.status()).unwrap();
    assert_eq!(status["scopes"][0]["state"], "open");
    assert_eq!(status["zone"], "America/Chicago");
}
