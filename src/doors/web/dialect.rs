//! The form in which a caller wants its answer.

use hyper::{
    HeaderMap, Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderName},
    http::request::Parts,
};

/// What a caller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A browser.
    Html,
    /// JSON; problems as RFC 9457 has them.
    Json,
    /// SOAP 1.1.
    Soap11,
    /// SOAP 1.2.
    Soap12,
    /// Anything else: people with curl, and programs that look at the status alone.
    Text,
}

impl Dialect {
    /// What was sent tells more than what is accepted: SOAP stacks often send `Accept: */*` or a browser's.
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Self {
        let sent = text(headers, CONTENT_TYPE).to_ascii_lowercase();
        if let Some(soap) = soap(method, headers, &sent) {
            return soap;
        }
        let fallback = if is_json(media(&sent)) { Self::Json } else { Self::Text };
        accepted(&accept(headers), fallback)
    }
}

impl Dialect {
    /// The form for a request. A file that is sent to a service may be XML, and says nothing of what its sender reads: problems
    /// are JSON there unless the caller accepts something else.
    pub(super) fn of_request(head: &Parts) -> Self {
        if !super::service::is_below(head.uri.path()) {
            return Self::of(&head.method, &head.headers);
        }
        accepted(&accept(&head.headers), Self::Json)
    }
}

/// RFC 9110 5.3: several lines are one list.
fn accept(headers: &HeaderMap) -> String {
    let lines: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    lines.join(",")
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The media type without its parameters.
fn media(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

fn is_json(media: &str) -> bool {
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

fn soap(method: &Method, headers: &HeaderMap, sent: &str) -> Option<Dialect> {
    match media(sent) {
        "application/soap+xml" => return Some(Dialect::Soap12),
        // MTOM: the envelope's type stands in a parameter.
        "multipart/related" if sent.contains("application/soap+xml") => return Some(Dialect::Soap12),
        "multipart/related" if sent.contains("text/xml") => return Some(Dialect::Soap11),
        // SOAP 1.1 asks for a SOAPAction as well, and clients leave it out.
        "text/xml" if method == Method::POST => return Some(Dialect::Soap11),
        _ => {}
    }
    headers.contains_key("soapaction").then_some(Dialect::Soap11)
}

/// RFC 9110 12.5.1: the highest quality wins, then what is named exactly, then what stands first.
fn accepted(accept: &str, fallback: Dialect) -> Dialect {
    let mut best: Option<(u16, u8, Dialect)> = None;
    for entry in accept.split(',') {
        let entry = entry.trim().to_ascii_lowercase();
        let (exact, dialect) = match media(&entry) {
            "text/html" | "application/xhtml+xml" => (2, Dialect::Html),
            "text/plain" => (2, Dialect::Text),
            "application/soap+xml" => (2, Dialect::Soap12),
            json if is_json(json) => (2, Dialect::Json),
            "text/*" => (1, Dialect::Html),
            "application/*" => (1, Dialect::Json),
            "*/*" => (0, fallback),
            _ => continue,
        };
        let quality = quality(&entry);
        if quality > 0 && best.is_none_or(|(most, most_exact, _)| (quality, exact) > (most, most_exact)) {
            best = Some((quality, exact, dialect));
        }
    }
    best.map_or(fallback, |(_, _, dialect)| dialect)
}

/// In thousandths; what is no quality counts as none.
fn quality(entry: &str) -> u16 {
    let given = entry.split(';').skip(1).find_map(|parameter| parameter.trim().strip_prefix("q="));
    match given.map(|value| value.trim().parse::<f32>()) {
        None => 1000,
        Some(Ok(value)) if (0.0..=1.0).contains(&value) => (value * 1000.0) as u16,
        Some(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &Method, headers: &[(&'static str, &'static str)]) -> Dialect {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Dialect::of(method, &map)
    }

    #[test]
    fn what_is_accepted_decides() {
        use Dialect::{Html, Json, Soap12, Text};
        const FIREFOX: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (accept, dialect) in [
            (FIREFOX, Html),
            ("*/*", Text),
            ("", Text),
            ("application/json", Json),
            ("application/problem+json", Json),
            ("application/fhir+json", Json),
            ("Application/JSON; charset=utf-8", Json),
            ("application/json, text/plain, */*", Json),
            ("text/plain;q=0.5, application/json;q=0.4", Text),
            ("*/*, text/html", Html),
            ("text/*", Html),
            ("application/*", Json),
            ("application/soap+xml", Soap12),
            ("text/html;q=0, application/json;q=0.1", Json),
            ("text/html;q=7, application/json;q=0.1", Json),
            ("text/html;q=x", Text),
            ("image/png", Text),
            (";;;,,,q=1", Text),
        ] {
            assert_eq!(of(&Method::GET, &[("accept", accept)]), dialect, "{accept}");
        }
        assert_eq!(of(&Method::GET, &[]), Text);
        assert_eq!(of(&Method::GET, &[("accept", "image/png"), ("accept", "text/html")]), Html);
    }

    #[test]
    fn what_is_sent_decides_first() {
        use Dialect::{Html, Json, Soap11, Soap12, Text};
        for (headers, dialect) in [
            (&[("content-type", "application/soap+xml; charset=utf-8; action=\"x\"")][..], Soap12),
            (&[("content-type", "Application/SOAP+XML"), ("accept", "text/html")], Soap12),
            (&[("content-type", "text/xml"), ("soapaction", "\"\"")], Soap11),
            (&[("content-type", "text/xml"), ("accept", "*/*")], Soap11),
            (&[("soapaction", "\"urn:x\"")], Soap11),
            (
                &[(
                    "content-type",
                    "multipart/related; type=\"application/xop+xml\"; start-info=\"application/soap+xml\"",
                )],
                Soap12,
            ),
            (&[("content-type", "multipart/related; type=\"application/xop+xml\"; start-info=\"text/xml\"")], Soap11),
            (&[("content-type", "application/json")], Json),
            (&[("content-type", "application/json"), ("accept", "*/*")], Json),
            (&[("content-type", "application/json"), ("accept", "text/html")], Html),
            (&[("content-type", "multipart/form-data"), ("accept", "*/*")], Text),
        ] {
            assert_eq!(of(&Method::POST, headers), dialect, "{headers:?}");
        }
    }
}
