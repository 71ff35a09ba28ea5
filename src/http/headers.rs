//! Headers that keep an answer from being taken for something else, kept, or used by other pages.

use hyper::{
    HeaderMap,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};

/// Nothing may be loaded, run, embedded or sent.
const NOTHING: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Guards an answer; a style that has `nonce` may be used in it, where that is not empty. A nonce is hexadecimal.
pub fn guard(headers: &mut HeaderMap, nonce: &str) {
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (VARY, "Accept"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_SECURITY_POLICY, policy(nonce));
}

fn policy(nonce: &str) -> HeaderValue {
    let text = if nonce.is_empty() { NOTHING.to_owned() } else { format!("{NOTHING}; style-src 'nonce-{nonce}'") };
    // A nonce is hexadecimal, so the text is always a header's.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(NOTHING))
}
