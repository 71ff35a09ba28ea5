//! Files of our own that pages are made of: style, script and picture.

use axum::body::Body;
use data_encoding::HEXLOWER;
use hyper::{
    Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH},
    http::request::Parts,
};
use sha2::{Digest, Sha256};

use super::guard_data;

/// Below this path there are no others.
const FOLDER: &str = "/assets/";
/// A file whose digest stands in its address never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// One file, by its name and what it holds.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

/// Such files, each with an address that changes when it does.
#[derive(Clone, Debug)]
pub struct Assets(Vec<(Asset, String)>);

impl Asset {
    /// A file of this media type.
    #[must_use]
    pub const fn new(name: &'static str, kind: &'static str, content: &'static [u8]) -> Self {
        Self { name, kind, content }
    }
}

impl Assets {
    /// These files.
    #[must_use]
    pub fn new(assets: &[Asset]) -> Self {
        let version = |asset: &Asset| HEXLOWER.encode(&Sha256::digest(asset.content)[..8]);
        Self(assets.iter().map(|asset| (*asset, version(asset))).collect())
    }

    /// The address of a file; that of the folder for a name that there is none of.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        match self.find(name) {
            Some((_, version)) => format!("{FOLDER}{name}?v={version}"),
            None => FOLDER.to_owned(),
        }
    }

    /// Returns true for the paths of such files, whether they are there or not.
    #[must_use]
    pub fn is_below(path: &str) -> bool {
        path.starts_with(FOLDER)
    }

    /// The answer to a request that looks at a file; none where there is no such file.
    #[must_use]
    pub fn answer(&self, head: &Parts) -> Option<Response<Body>> {
        let (asset, version) = self.find(head.uri.path().strip_prefix(FOLDER)?)?;
        let tag = format!("\"{version}\"");
        let is_known = head.headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let mut answer = match is_known {
            true => Response::new(Body::empty()),
            false => Response::new(Body::from(asset.content)),
        };
        if is_known {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let told = answer.headers_mut();
        guard_data(told);
        told.insert(CONTENT_TYPE, HeaderValue::from_static(asset.kind));
        let is_pinned = head.uri.query().and_then(|query| query.strip_prefix("v=")) == Some(version.as_str());
        told.insert(CACHE_CONTROL, HeaderValue::from_static(if is_pinned { FOR_EVER } else { "no-cache" }));
        // Hexadecimal in quotes is always a header's.
        told.insert(ETAG, HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("")));
        Some(answer)
    }

    fn find(&self, name: &str) -> Option<&(Asset, String)> {
        self.0.iter().find(|(asset, _)| asset.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, known: &str) -> Parts {
        hyper::Request::builder().uri(uri).header(IF_NONE_MATCH, known).body(()).unwrap().into_parts().0
    }

    #[test]
    fn files_are_kept_for_ever_under_their_digest_alone() {
        let assets = Assets::new(&[Asset::new("a.css", "text/css", b"a{}")]);
        let url = assets.url("a.css");
        let of = |uri: &str, known: &str| assets.answer(&head(uri, known)).map(|answer| answer.into_parts().0);
        let pinned = of(&url, "").unwrap();
        assert_eq!(
            (pinned.status.as_u16(), &pinned.headers[CACHE_CONTROL]),
            (200, &HeaderValue::from_static(FOR_EVER))
        );
        assert_eq!(of("/assets/a.css?v=0", "").unwrap().headers[CACHE_CONTROL], "no-cache");
        let known = of("/assets/a.css", pinned.headers[ETAG].to_str().unwrap()).unwrap();
        assert_eq!(known.status.as_u16(), 304);
        for none in ["/assets/", "/assets/b.css", "/assets/../a.css", "/a.css"] {
            assert!(of(none, "").is_none(), "{none}");
        }
    }
}
