//! Where a path leads: through imports, re-exports, globs, renames and aliases, to what is defined.

use std::collections::BTreeSet;

use super::sources::{Binding, Place, Sources, To};

/// One way from a path to a definition: every place on it, the definition last.
pub type Way = Vec<Place>;

/// Bindings and globs of modules that a question is about already: it must not go round in a circle.
type Asked = Vec<(Place, String, usize)>;
/// Stands for a module's globs.
const GLOBS: usize = usize::MAX;

/// What a walk has come to.
#[derive(Clone)]
struct Walk {
    way: Way,
    /// A module that names can be looked up in; else it has come to its end.
    in_module: bool,
}

impl Sources {
    /// All ways that a path written in `from` may lead: a name may be a module, a type and a function at once.
    pub fn ways(&self, path: &[String], from: &[String]) -> BTreeSet<Way> {
        let walks = self.walk(path, from, &mut Vec::new());
        walks.into_iter().map(|walk| walk.way).filter(|way| !way.is_empty()).collect()
    }

    /// All ways of the names that `use path::*` brings into `from`.
    pub fn ways_of_glob(&self, path: &[String], from: &[String]) -> BTreeSet<Way> {
        let mut found = BTreeSet::new();
        for module in self.walk(path, from, &mut Vec::new()) {
            found.insert(module.way.clone());
            let Some(place) = module.way.last().filter(|_| module.in_module) else { continue };
            for name in self.names_in(place, from, &mut BTreeSet::new()) {
                let inner = self.look_up(place, &name, from, &mut Vec::new());
                found.extend(inner.into_iter().map(|walk| [module.way.clone(), walk.way].concat()));
            }
        }
        found
    }

    /// The names in a module that `from` sees.
    fn names_in(&self, place: &[String], from: &[String], been: &mut BTreeSet<Place>) -> BTreeSet<String> {
        let Some(module) = self.modules.get(place).filter(|_| been.insert(place.to_vec())) else {
            return BTreeSet::new();
        };
        let own = module.bindings.iter().filter(|one| one.seen.by(from));
        let mut names: BTreeSet<String> = own.map(|one| one.name.clone()).collect();
        for (path, _) in module.globs.iter().filter(|(_, seen)| seen.by(from)) {
            for inner in self.walk(path, place, &mut Vec::new()) {
                names.extend(self.names_in(inner.way.last().map_or(&[], |place| place), from, been));
            }
        }
        names
    }

    fn walk(&self, path: &[String], from: &[String], asked: &mut Asked) -> Vec<Walk> {
        let Some((first, rest)) = path.split_first() else { return Vec::new() };
        let here = |place: &[String]| vec![Walk { way: vec![place.to_vec()], in_module: true }];
        let walks = match first.as_str() {
            "crate" | "$crate" => here(&from[..1]),
            "self" => here(from),
            "super" => here(&from[..from.len().saturating_sub(1).max(1)]),
            "Self" => return Vec::new(),
            // `::name`: a crate, whatever else has that name.
            "" => {
                let Some((name, rest)) = rest.split_first() else { return Vec::new() };
                return self.on(self.outside(name), rest, from, asked);
            }
            name => {
                let mut found = self.look_up(from, name, from, asked);
                if !found.iter().any(|walk| walk.way.last().is_some_and(|place| self.is_ours(place))) {
                    found.extend(self.outside(name));
                }
                found
            }
        };
        self.on(walks, rest, from, asked)
    }

    /// Goes on from where some walks have come to.
    fn on(&self, mut walks: Vec<Walk>, rest: &[String], from: &[String], asked: &mut Asked) -> Vec<Walk> {
        for name in rest {
            let mut next = Vec::new();
            for walk in walks {
                let place = walk.way.last().cloned().unwrap_or_default();
                if !walk.in_module {
                    // What belongs to a type: it is where the type is. Of other crates nothing is known but names.
                    let mut walk = walk;
                    if !self.is_ours(&place) {
                        walk.way.push([place, vec![name.clone()]].concat());
                    }
                    next.push(walk);
                } else if name == "super" {
                    let way = [walk.way, vec![place[..place.len() - 1].to_vec()]].concat();
                    next.push(Walk { way, in_module: true });
                } else {
                    let found = self.look_up(&place, name, from, asked);
                    next.extend(found.into_iter().map(|one| Walk { way: [walk.way.clone(), one.way].concat(), ..one }));
                }
            }
            walks = next;
        }
        walks
    }

    /// Looks a name up in a module, as one that stands in `from` sees it.
    fn look_up(&self, place: &[String], name: &str, from: &[String], asked: &mut Asked) -> Vec<Walk> {
        let Some(module) = self.modules.get(place) else { return Vec::new() };
        let mut walks = Vec::new();
        for (number, one) in module.bindings.iter().enumerate() {
            if one.name == name && one.seen.by(from) {
                walks.extend(once(asked, place, name, number, |asked| self.follow(place, one, asked)));
            }
        }
        // A name of the module's own hides what a glob brings.
        if walks.is_empty() {
            walks = once(asked, place, name, GLOBS, |asked| self.look_up_in_globs(place, name, from, asked));
        }
        walks
    }

    fn look_up_in_globs(&self, place: &[String], name: &str, from: &[String], asked: &mut Asked) -> Vec<Walk> {
        let mut walks = Vec::new();
        for (path, _) in self.modules[place].globs.iter().filter(|(_, seen)| seen.by(from)) {
            for inner in self.walk(path, place, asked) {
                let Some(there) = inner.way.last() else { continue };
                if !self.is_ours(there) {
                    // Nobody knows what another crate's module has: it may be this.
                    let way = [inner.way.clone(), vec![[there.clone(), vec![name.to_owned()]].concat()]].concat();
                    walks.push(Walk { way, in_module: false });
                }
                let found = self.look_up(there, name, place, asked);
                walks.extend(found.into_iter().map(|one| Walk { way: [inner.way.clone(), one.way].concat(), ..one }));
            }
        }
        walks
    }

    fn follow(&self, place: &[String], binding: &Binding, asked: &mut Asked) -> Vec<Walk> {
        let me: Place = place.iter().chain([&binding.name]).cloned().collect();
        let behind = |walk: Walk| Walk { way: [vec![me.clone()], walk.way].concat(), ..walk };
        match &binding.to {
            To::Module => vec![Walk { way: vec![me], in_module: true }],
            To::Item => vec![Walk { way: vec![me], in_module: false }],
            To::Import(path) => self.walk(path, place, asked).into_iter().map(behind).collect(),
            To::Alias(paths) => {
                let all = paths.iter().flat_map(|path| self.walk(path, place, asked));
                let mut walks: Vec<Walk> = all.map(behind).map(|walk| Walk { in_module: false, ..walk }).collect();
                walks.push(Walk { way: vec![me.clone()], in_module: false });
                walks
            }
        }
    }

    /// A crate that has this name, or a name that the language brings.
    fn outside(&self, name: &str) -> Vec<Walk> {
        let place = vec![name.to_owned()];
        vec![Walk { in_module: self.modules.contains_key(&place), way: vec![place] }]
    }

    /// Whether the sources of this place's crate were read.
    pub fn is_ours(&self, place: &[String]) -> bool {
        place.first().is_some_and(|name| self.modules.contains_key(std::slice::from_ref(name)))
    }
}

/// Asks a question unless it is being asked already.
fn once(
    asked: &mut Asked,
    place: &[String],
    name: &str,
    number: usize,
    ask: impl FnOnce(&mut Asked) -> Vec<Walk>,
) -> Vec<Walk> {
    let question = (place.to_vec(), name.to_owned(), number);
    if asked.contains(&question) {
        return Vec::new();
    }
    asked.push(question);
    let walks = ask(asked);
    asked.pop();
    walks
}
