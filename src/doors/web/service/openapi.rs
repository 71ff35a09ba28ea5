//! The routes of the services, and their description (OpenAPI 3.1), which is made from the routes that serve.

use axum::{Router, routing::get};
use hyper::StatusCode;
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        Server,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Services, files, out, upload};
use crate::doors::web::answer;

/// The bytes of a file, as they are.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it describes what is read and sent piece by piece")]
pub(super) struct Content(Vec<u8>);

#[derive(OpenApi)]
#[openapi(info(
    title = "Forebay",
    description = "Files are sent and fetched here. While maintenance is on every request is answered 503, with Retry-After.",
    license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
))]
struct Description;

/// The routes below `/v1/`; `url` is the public address, if it is known.
pub(in crate::doors::web) fn routes(services: &Services, url: Option<&str>) -> Router {
    let (routes, mut description) = described().split_for_parts();
    description.servers = url.map(|url| vec![Server::new(url.trim_end_matches('/'))]);
    let text = answer::json(&description);
    let description = move || {
        let text = text.clone();
        async move { answer::json_text(StatusCode::OK, text) }
    };
    routes
        // The same without its last slash, and with more of them in the name: a description knows neither.
        .route("/v1/out", get(out::list))
        .route("/v1/out/{folder}/{*name}", get(out::deeper))
        .with_state(services.clone())
        .route("/v1/openapi.json", get(description))
}

fn described() -> OpenApiRouter<Services> {
    let mut description = Description::openapi();
    let components = description.components.get_or_insert_default();
    components.add_security_scheme("basic", SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)));
    components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components.add_security_scheme(
        "certificate",
        SecurityScheme::MutualTls { description: None, deprecated: None, extensions: None },
    );
    OpenApiRouter::with_openapi(description)
        .routes(routes!(upload::upload, files::list))
        .routes(routes!(files::one))
        .routes(routes!(out::list))
        .routes(routes!(out::one))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_operation_is_described_with_what_it_may_answer() {
        let description = serde_json::to_value(described().into_openapi()).unwrap();
        let paths = description["paths"].as_object().unwrap();
        let names: Vec<_> = paths.keys().map(String::as_str).collect();
        assert_eq!(names, ["/v1/files", "/v1/files/{id}", "/v1/out/", "/v1/out/{name}"]);
        let operations = || paths.values().flat_map(|path| path.as_object().unwrap().values());
        for operation in operations() {
            let responses = operation["responses"].as_object().unwrap();
            for status in ["400", "401", "403", "421", "429", "503"] {
                assert!(responses.contains_key(status), "{status}: {operation}");
            }
        }
        let ids: BTreeSet<_> = operations().map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), operations().count(), "each has an id of its own: {ids:?}");
        assert!(description["components"]["schemas"]["Problem"].is_object(), "{description:#}");
    }
}
