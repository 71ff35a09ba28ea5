//! Names of time zones: those that mean a place, and those that people write for one and that mean another time.

use chrono_tz::Tz;

/// Names as people write them, and the zone of the place that they mean. Those on the left either have the same time all
/// the year, or are no zones at all.
const MEANT: [(&str, &str); 49] = [
    ("EST", "America/New_York"),
    ("EDT", "America/New_York"),
    ("CST", "America/Chicago"),
    ("CDT", "America/Chicago"),
    ("MST", "America/Denver"),
    ("MDT", "America/Denver"),
    ("PST", "America/Los_Angeles"),
    ("PDT", "America/Los_Angeles"),
    ("AST", "America/Halifax"),
    ("AKST", "America/Anchorage"),
    ("GMT", "Europe/London"),
    ("GMT0", "Europe/London"),
    ("GMT+0", "Europe/London"),
    ("GMT-0", "Europe/London"),
    ("Greenwich", "Europe/London"),
    ("BST", "Europe/London"),
    ("CEST", "Europe/Berlin"),
    ("EEST", "Europe/Athens"),
    ("JST", "Asia/Tokyo"),
    ("IST", "Asia/Kolkata"),
    ("AEST", "Australia/Sydney"),
    ("AEDT", "Australia/Sydney"),
    ("NZST", "Pacific/Auckland"),
    ("Etc/GMT", "Europe/London"),
    ("Etc/GMT0", "Europe/London"),
    ("Etc/GMT+0", "Europe/London"),
    ("Etc/GMT-0", "Europe/London"),
    ("Etc/Greenwich", "Europe/London"),
    ("Etc/GMT+4", "America/Halifax"),
    ("Etc/GMT+5", "America/New_York"),
    ("Etc/GMT+6", "America/Chicago"),
    ("Etc/GMT+7", "America/Denver"),
    ("Etc/GMT+8", "America/Los_Angeles"),
    ("Etc/GMT+9", "America/Anchorage"),
    ("Etc/GMT+10", "Pacific/Honolulu"),
    ("Etc/GMT-1", "Europe/Berlin"),
    ("Etc/GMT-2", "Europe/Athens"),
    ("Etc/GMT-10", "Australia/Sydney"),
    ("Etc/GMT-12", "Pacific/Auckland"),
    // As Windows names them.
    ("Eastern Standard Time", "America/New_York"),
    ("Central Standard Time", "America/Chicago"),
    ("Mountain Standard Time", "America/Denver"),
    ("US Mountain Standard Time", "America/Phoenix"),
    ("Pacific Standard Time", "America/Los_Angeles"),
    ("Alaskan Standard Time", "America/Anchorage"),
    ("Hawaiian Standard Time", "Pacific/Honolulu"),
    ("Atlantic Standard Time", "America/Halifax"),
    ("GMT Standard Time", "Europe/London"),
    ("W. Europe Standard Time", "Europe/Berlin"),
];

/// The zone that was probably meant by a name.
pub(super) fn meant(name: &str) -> Option<&'static str> {
    MEANT.iter().find(|(written, _)| written.eq_ignore_ascii_case(name)).map(|(_, zone)| *zone)
}

/// The warning for a zone whose name promises a place and that knows no daylight saving time; none when the name is what
/// it seems.
#[must_use]
pub fn fixed_zone(zone: Tz) -> Option<String> {
    let name = zone.name();
    let fixed = name.starts_with("Etc/GMT") || meant(name).is_some();
    if !fixed {
        return None;
    }
    // POSIX counts west as positive, which nobody expects: the warning says so.
    let hours = name.strip_prefix("Etc/GMT").and_then(|hours| hours.parse::<i32>().ok()).filter(|hours| *hours != 0);
    let turned = hours.map_or(String::new(), |hours| {
        format!(" (and it is UTC{:+}: in these names the sign is turned round)", -hours)
    });
    let instead = match meant(name) {
        Some(zone) => format!("probably \"{zone}\" is meant"),
        None => "name the place instead, such as \"America/Chicago\", or \"UTC\"".to_owned(),
    };
    Some(format!("\"{name}\" has the same time all the year, without daylight saving time{turned}; {instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_no_place_are_told_with_the_place_that_was_meant() {
        for (name, zone) in [
            ("EST", Some("America/New_York")),
            ("MST", Some("America/Denver")),
            ("Etc/GMT+6", Some("America/Chicago")),
            ("Etc/GMT-1", Some("Europe/Berlin")),
            ("GMT", Some("Europe/London")),
            ("Etc/GMT-8", None),
        ] {
            let told = fixed_zone(name.parse().unwrap()).unwrap_or_else(|| panic!("{name} is what it seems"));
            assert!(told.contains(zone.unwrap_or("name the place")), "{name}: {told}");
        }
        assert!(fixed_zone("Etc/GMT+6".parse().unwrap()).is_some_and(|told| told.contains("UTC-6")));
        assert!(fixed_zone("Etc/GMT-10".parse().unwrap()).is_some_and(|told| told.contains("UTC+10")));
    }

    #[test]
    fn zones_of_places_and_utc_are_what_they_seem() {
        for name in
            ["America/Chicago", "America/Phoenix", "HST", "US/Central", "EST5EDT", "CET", "UTC", "Etc/UTC", "Zulu"]
        {
            assert_eq!(fixed_zone(name.parse().unwrap()), None, "{name}");
        }
    }

    #[test]
    fn every_zone_that_is_proposed_is_one() {
        for (_, zone) in MEANT {
            assert!(zone.parse::<Tz>().is_ok(), "{zone}");
        }
    }
}
