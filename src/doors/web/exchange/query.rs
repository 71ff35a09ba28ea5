//! The query of a request, read strictly: a name that is no UTF-8 is not made into another one.

use hyper::Uri;
use percent_encoding::percent_decode_str;

use super::Problem;

/// The value of a parameter; none when it is not there.
pub(in crate::doors::web) fn parameter(uri: &Uri, wanted: &'static str) -> Result<Option<String>, Problem> {
    let mut found = None;
    for pair in uri.query().unwrap_or_default().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded(key).as_deref() != Some(wanted) {
            continue;
        }
        let value = decoded(value).ok_or_else(|| Problem::bad("is no text in UTF-8").of(wanted))?;
        if found.replace(value).is_some() {
            return Err(Problem::bad("stands twice").of(wanted));
        }
    }
    Ok(found)
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_texts_that_stand_once() {
        let of = |uri: &str| parameter(&uri.parse().unwrap(), "name").map_err(|problem| problem.status.as_u16());
        assert_eq!(of("/v1/files"), Ok(None));
        assert_eq!(of("/v1/files?name=a+b%2Fc%20%C3%BC&x=%ff"), Ok(Some("a b/c ü".to_owned())));
        assert_eq!(of("/v1/files?n%61me=a%2Bb"), Ok(Some("a+b".to_owned())));
        assert_eq!(of("/v1/files?name"), Ok(Some(String::new())));
        assert_eq!([of("/v1/files?name=%ff"), of("/v1/files?name=a&name=b")], [Err(400), Err(400)]);
    }
}
