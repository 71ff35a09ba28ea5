//! Headers that keep an answer from being taken for something else, kept, or used by other pages.

use hyper::{
    HeaderMap,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};

/// Nothing may be loaded, run, embedded or sent.
const NOTHING: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Files of our own alone, and nothing that stands in the page itself; text never becomes markup or script.
const OWN_FILES: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Guards an answer that is no page.
pub fn guard_data(headers: &mut HeaderMap) {
    guard(headers, NOTHING);
}

/// Guards a page that is made of files of our own.
pub fn guard_page(headers: &mut HeaderMap) {
    guard(headers, OWN_FILES);
    // Without it a browser says of our own forms that they come from nowhere (Fetch, 3.2.5).
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
}

fn guard(headers: &mut HeaderMap, policy: &'static str) {
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (VARY, "Accept"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (CONTENT_SECURITY_POLICY, policy),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
