//! What an item gives to those who use it without naming where that comes from: results, fields, associated types.
//!
//! What is given *in* is left out: a composition root must hand stores to those who use them. The parameters of a closure
//! that is given in are given out, and so are those of a trait's methods, which somebody else may implement.

use syn::{
    Fields, FnArg, ImplItem, Item, PathArguments, ReturnType, Signature, TraitItem, Type, TypeParamBound, Visibility,
    visit::{self, Visit},
};

use super::sources::{Place, Seen, is_for_tests, segments};

/// The types that one public thing gives.
#[derive(Clone, Debug)]
pub struct Given {
    /// What gives them: `Type::method`, `Type.field`.
    pub by: String,
    /// Their paths, as written.
    pub types: Vec<Place>,
    pub seen: Seen,
    /// To whom.
    pub to: To,
}

/// Who is given something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Users,
    /// Those who implement a trait: the parameters of its methods.
    Implementers,
}

/// Traits whose parameters go in: a conversion from something gives nothing of it away.
const TAKING: [&str; 5] = ["From", "TryFrom", "PartialEq", "PartialOrd", "Extend"];

/// Everything that an item gives.
pub fn given(item: &Item, at: &[String]) -> Vec<Given> {
    let one =
        |by: String, types: Vec<Place>, vis: &Visibility| Given { by, types, seen: Seen::of(vis, at), to: To::Users };
    match item {
        Item::Const(it) => vec![one(it.ident.to_string(), paths_of_type(&it.ty), &it.vis)],
        Item::Static(it) => vec![one(it.ident.to_string(), paths_of_type(&it.ty), &it.vis)],
        Item::Type(it) => vec![one(it.ident.to_string(), paths_of_type(&it.ty), &it.vis)],
        Item::Fn(it) => vec![one(it.sig.ident.to_string(), results(&it.sig), &it.vis)],
        Item::Struct(it) => fields(&it.fields, &it.ident.to_string(), None, at),
        Item::Enum(it) => {
            let all = it.variants.iter();
            all.flat_map(|variant| {
                fields(&variant.fields, &format!("{}::{}", it.ident, variant.ident), Some(&it.vis), at)
            })
            .collect()
        }
        Item::Trait(it) => {
            let mut all = Vec::new();
            for item in &it.items {
                let mut add = |name: &syn::Ident, types, to| {
                    all.push(Given { to, ..one(format!("{}::{name}", it.ident), types, &it.vis) });
                };
                match item {
                    TraitItem::Fn(method) => {
                        add(&method.sig.ident, results(&method.sig), To::Users);
                        add(&method.sig.ident, parameters(&method.sig), To::Implementers);
                    }
                    TraitItem::Const(it) => add(&it.ident, paths_of_type(&it.ty), To::Users),
                    TraitItem::Type(it) => {
                        add(&it.ident, it.bounds.iter().flat_map(paths_of_bound).collect(), To::Users)
                    }
                    _ => {}
                }
            }
            all
        }
        Item::Impl(it) => of_impl(it, at),
        _ => Vec::new(),
    }
}

fn of_impl(it: &syn::ItemImpl, at: &[String]) -> Vec<Given> {
    let me = paths_of_type(&it.self_ty).first().map(|path| path.join("::")).unwrap_or_default();
    let mut all = Vec::new();
    if let Some((path, _)) = &it.trait_ {
        // Who sees the trait and the type sees this; both are judged where they are defined.
        let last = path.segments.last().expect("a trait has a name");
        if !TAKING.iter().any(|taking| last.ident == taking) {
            let mut types = Names::default();
            types.visit_path_arguments(&last.arguments);
            all.push(Given {
                by: format!("{} for {me}", last.ident),
                types: types.0,
                seen: Seen::ByAll,
                to: To::Users,
            });
        }
    }
    for item in &it.items {
        match item {
            ImplItem::Fn(method) if it.trait_.is_none() && !is_for_tests(&method.attrs) => all.push(Given {
                by: format!("{me}::{}", method.sig.ident),
                types: results(&method.sig),
                seen: Seen::of(&method.vis, at),
                to: To::Users,
            }),
            ImplItem::Const(it) => all.push(Given {
                by: format!("{me}::{}", it.ident),
                types: paths_of_type(&it.ty),
                seen: Seen::of(&it.vis, at),
                to: To::Users,
            }),
            // `Deref::Target` and its like; those of a trait of the outside that only takes are its results.
            ImplItem::Type(target) => all.push(Given {
                by: format!("{me}::{}", target.ident),
                types: paths_of_type(&target.ty),
                seen: Seen::ByAll,
                to: To::Users,
            }),
            _ => {}
        }
    }
    all
}

fn fields(fields: &Fields, of: &str, vis: Option<&Visibility>, at: &[String]) -> Vec<Given> {
    let all = fields.iter().enumerate().map(|(number, field)| {
        let name = field.ident.as_ref().map_or_else(|| number.to_string(), ToString::to_string);
        let seen = Seen::of(vis.unwrap_or(&field.vis), at);
        Given { by: format!("{of}.{name}"), types: paths_of_type(&field.ty), seen, to: To::Users }
    });
    all.collect()
}

/// What a function gives back, and what it gives to closures.
fn results(signature: &Signature) -> Vec<Place> {
    let mut types = match &signature.output {
        ReturnType::Default => Vec::new(),
        ReturnType::Type(_, result) => paths_of_type(result),
    };
    let mut closures = Closures::default();
    closures.visit_generics(&signature.generics);
    signature.inputs.iter().for_each(|input| closures.visit_fn_arg(input));
    types.extend(closures.0);
    types
}

fn parameters(signature: &Signature) -> Vec<Place> {
    let typed = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(paths_of_type(&typed.ty)),
        FnArg::Receiver(_) => None,
    });
    typed.flatten().collect()
}

/// Every path in a type.
pub fn paths_of_type(one: &Type) -> Vec<Place> {
    let mut names = Names::default();
    names.visit_type(one);
    names.0
}

pub fn paths_of_bound(one: &TypeParamBound) -> Vec<Place> {
    let mut names = Names::default();
    names.visit_type_param_bound(one);
    names.0
}

#[derive(Default)]
struct Names(Vec<Place>);

impl<'ast> Visit<'ast> for Names {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(segments(path));
        visit::visit_path(self, path);
    }
}

/// What closures are given: `Fn(this)`.
#[derive(Default)]
struct Closures(Vec<Place>);

impl<'ast> Visit<'ast> for Closures {
    fn visit_path_arguments(&mut self, arguments: &'ast PathArguments) {
        if let PathArguments::Parenthesized(these) = arguments {
            these.inputs.iter().for_each(|one| self.0.extend(paths_of_type(&one.ty)));
        }
        visit::visit_path_arguments(self, arguments);
    }
}
