//! The sources as a tree of modules: what each defines, imports, re-exports and mentions.
//!
//! Modules are found as the compiler finds them, by their `mod` lines. What is compiled for unit tests alone is left out:
//! tests may stand on real parts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, ItemMod, ItemUse, LitStr, Macro, Meta, UseTree, Visibility,
    visit::{self, Visit},
};

use crate::faces;

/// A path: its crate first, and then modules and a name.
pub type Place = Vec<String>;

/// All modules by their place, of all crates.
#[derive(Default)]
pub struct Sources {
    pub modules: BTreeMap<Place, Module>,
    /// Every file that was read.
    pub files: BTreeSet<PathBuf>,
}

/// A module, as far as names go.
#[derive(Default)]
pub struct Module {
    /// What has a name in it.
    pub bindings: Vec<Binding>,
    /// What it imports whole.
    pub globs: Vec<(Place, Seen)>,
    /// Every path that its code names.
    pub mentions: BTreeSet<Place>,
    /// The text of every string literal, documentation aside.
    pub literals: BTreeSet<String>,
    /// What it gives to those who use it.
    pub given: Vec<faces::Given>,
}

/// A name in a module.
#[derive(Clone, Debug)]
pub struct Binding {
    pub name: String,
    pub to: To,
    pub seen: Seen,
}

/// What a name is.
#[derive(Clone, Debug)]
pub enum To {
    Module,
    /// Defined here.
    Item,
    /// An import: another name for this path.
    Import(Place),
    /// Defined here in terms of these paths, so that who names it has them: an alias's type, a trait's supertraits.
    Alias(Vec<Place>),
}

/// Who sees a name.
#[derive(Clone, Debug)]
pub enum Seen {
    ByAll,
    Within(Place),
}

impl Seen {
    pub fn by(&self, module: &[String]) -> bool {
        match self {
            Self::ByAll => true,
            Self::Within(place) => module.starts_with(place),
        }
    }

    pub fn of(vis: &Visibility, module: &[String]) -> Self {
        match vis {
            Visibility::Public(_) => Self::ByAll,
            Visibility::Inherited => Self::Within(module.to_vec()),
            Visibility::Restricted(to) => {
                let mut place = module.to_vec();
                for (number, part) in segments(&to.path).into_iter().enumerate() {
                    match part.as_str() {
                        "crate" => place.truncate(1),
                        "super" => drop(place.pop()),
                        "self" => {}
                        _ if number > 0 => place.push(part),
                        _ => panic!("a visibility that is not understood: {part}"),
                    }
                }
                Self::Within(place)
            }
        }
    }
}

pub fn place(text: &str) -> Place {
    text.split("::").map(str::to_owned).collect()
}

pub fn segments(path: &syn::Path) -> Place {
    let mut place: Place = path.segments.iter().map(|one| name_of(&one.ident)).collect();
    if path.leading_colon.is_some() {
        place.insert(0, String::new());
    }
    place
}

/// An identifier's name: `r#type` is `type`.
fn name_of(ident: &proc_macro2::Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map(str::to_owned).unwrap_or(name)
}

impl Sources {
    /// Reads a crate from its root file.
    pub fn read(&mut self, name: &str, root: &Path) {
        let folder = root.parent().expect("a folder");
        self.file(&[name.to_owned()], root, folder);
    }

    /// Takes the text of a module that no file has.
    pub fn add(&mut self, at: &str, text: &str) {
        let file = syn::parse_file(text).expect("Rust");
        let at = place(at);
        for length in 1..at.len() {
            let above = self.modules.entry(at[..length].to_vec()).or_default();
            if !above.bindings.iter().any(|one| one.name == at[length]) {
                above.bindings.push(Binding { name: at[length].clone(), to: To::Module, seen: Seen::ByAll });
            }
        }
        self.items(&at, &file.items, None);
    }

    fn file(&mut self, at: &[String], file: &Path, folder: &Path) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.files.insert(file.to_owned());
        self.items(at, &parsed.items, Some(folder));
    }

    /// Takes the items of a module whose own modules lie in `folder`.
    fn items(&mut self, at: &[String], items: &[Item], folder: Option<&Path>) {
        let mut reader = Reader { at, module: self.modules.remove(at).unwrap_or_default() };
        items.iter().for_each(|item| reader.visit_item(item));
        self.modules.insert(at.to_vec(), reader.module);
        for item in items {
            match item {
                Item::Mod(inner) if !is_for_tests(&inner.attrs) => self.module(at, inner, folder),
                _ => {}
            }
        }
    }

    fn module(&mut self, above: &[String], module: &ItemMod, folder: Option<&Path>) {
        assert!(!module.attrs.iter().any(|one| one.path().is_ident("path")), "a #[path] is not understood");
        let name = name_of(&module.ident);
        let at: Place = above.iter().chain([&name]).cloned().collect();
        let folder = folder.map(|folder| folder.join(&name));
        match (&module.content, folder) {
            (Some((_, items)), folder) => self.items(&at, items, folder.as_deref()),
            (None, Some(folder)) => {
                let own = folder.with_extension("rs");
                let file = if own.is_file() { own } else { folder.join("mod.rs") };
                self.file(&at, &file, &folder);
            }
            (None, None) => {}
        }
    }
}

/// Whether this is compiled for unit tests alone.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|one| match &one.meta {
        Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        _ => false,
    })
}

/// Whether an item is compiled for unit tests alone.
fn is_test_item(item: &Item) -> bool {
    let attributes = match item {
        Item::Const(one) => &one.attrs,
        Item::Enum(one) => &one.attrs,
        Item::Fn(one) => &one.attrs,
        Item::Impl(one) => &one.attrs,
        Item::Macro(one) => &one.attrs,
        Item::Mod(one) => &one.attrs,
        Item::Static(one) => &one.attrs,
        Item::Struct(one) => &one.attrs,
        Item::Trait(one) => &one.attrs,
        Item::Type(one) => &one.attrs,
        Item::Use(one) => &one.attrs,
        _ => return false,
    };
    is_for_tests(attributes)
}

struct Reader<'a> {
    at: &'a [String],
    module: Module,
}

impl Reader<'_> {
    fn bind(&mut self, ident: &proc_macro2::Ident, vis: &Visibility, to: To) {
        let seen = Seen::of(vis, self.at);
        self.module.bindings.push(Binding { name: name_of(ident), to, seen });
    }

    fn import(&mut self, tree: &UseTree, before: &[String], seen: &Seen) {
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Place>();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(name_of(&path.ident)), seen),
            UseTree::Group(group) => group.items.iter().for_each(|one| self.import(one, before, seen)),
            UseTree::Glob(_) => self.module.globs.push((before.to_vec(), seen.clone())),
            UseTree::Name(name) if name.ident == "self" => {
                let last = before.last().expect("a path before self").clone();
                self.imported(last, before.to_vec(), seen);
            }
            UseTree::Name(name) => self.imported(name_of(&name.ident), with(name_of(&name.ident)), seen),
            UseTree::Rename(rename) => {
                let to = if rename.ident == "self" { before.to_vec() } else { with(name_of(&rename.ident)) };
                self.imported(name_of(&rename.rename), to, seen);
            }
        }
    }

    fn imported(&mut self, name: String, to: Place, seen: &Seen) {
        self.module.mentions.insert(to.clone());
        self.module.bindings.push(Binding { name, to: To::Import(to), seen: seen.clone() });
    }

    /// Paths of two parts and more in tokens that nobody has parsed: a macro's.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Place::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.mention(std::mem::take(&mut path));
                    }
                    path.push(name_of(&ident));
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.mention(std::mem::take(&mut path));
                    colons = 0;
                    match other {
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Literal(literal) => {
                            if let Ok(text) = syn::parse_str::<LitStr>(&literal.to_string()) {
                                self.module.literals.insert(text.value());
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        self.mention(path);
    }

    /// One name by itself is the module's own or was imported, and is judged there.
    fn mention(&mut self, path: Place) {
        if path.len() > 1 {
            self.module.mentions.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_test_item(item) {
            return;
        }
        self.module.given.extend(faces::given(item, self.at));
        match item {
            Item::Const(one) => self.bind(&one.ident, &one.vis, To::Item),
            Item::Enum(one) => self.bind(&one.ident, &one.vis, To::Item),
            Item::Fn(one) => self.bind(&one.sig.ident, &one.vis, To::Item),
            Item::Static(one) => self.bind(&one.ident, &one.vis, To::Item),
            Item::Struct(one) => self.bind(&one.ident, &one.vis, To::Item),
            Item::Union(one) => self.bind(&one.ident, &one.vis, To::Item),
            Item::Trait(one) => {
                let above = one.supertraits.iter().flat_map(faces::paths_of_bound).collect();
                self.bind(&one.ident, &one.vis, To::Alias(above));
            }
            Item::Type(one) => self.bind(&one.ident, &one.vis, To::Alias(faces::paths_of_type(&one.ty))),
            Item::ExternCrate(one) => {
                let name = one.rename.as_ref().map_or(&one.ident, |(_, name)| name);
                let to = vec![String::new(), name_of(&one.ident)];
                self.module.mentions.insert(to.clone());
                self.bind(name, &one.vis, To::Import(to));
            }
            // Its content is a module of its own.
            Item::Mod(one) => return self.bind(&one.ident, &one.vis, To::Module),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, one: &'ast ItemUse) {
        let before = if one.leading_colon.is_some() { vec![String::new()] } else { Vec::new() };
        let seen = Seen::of(&one.vis, self.at);
        self.import(&one.tree, &before, &seen);
    }

    fn visit_impl_item_fn(&mut self, one: &'ast syn::ImplItemFn) {
        if !is_for_tests(&one.attrs) {
            visit::visit_impl_item_fn(self, one);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.mention(segments(path));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, one: &'ast Macro) {
        self.mention(segments(&one.path));
        self.tokens(one.tokens.clone());
    }

    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.module.literals.insert(text.value());
    }

    /// Documentation is no code; what else an attribute says may name a path, in a string too.
    fn visit_attribute(&mut self, one: &'ast Attribute) {
        match &one.meta {
            Meta::List(list) => {
                let before = std::mem::take(&mut self.module.literals);
                self.tokens(list.tokens.clone());
                let said = std::mem::replace(&mut self.module.literals, before);
                let paths = said.iter().filter_map(|text| syn::parse_str::<syn::Path>(text).ok());
                paths.for_each(|path| self.mention(segments(&path)));
            }
            Meta::Path(_) | Meta::NameValue(_) => {}
        }
    }
}
