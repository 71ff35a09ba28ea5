//! The refusals that any operation may answer with, as the description has them.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{
        Content, Header, Object, Ref, RefOr, Response, ResponseBuilder, Type,
        header::HeaderBuilder,
        schema::{KnownFormat, SchemaFormat},
    },
};

use crate::doors::web::exchange::ProblemBody;

const PROBLEM: &str = "application/problem+json";

/// What stands for these refusals in the description of an operation.
pub(super) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let refusals = [
            ("400", problem("the request is none, or the field that the problem names is wrong")),
            ("401", problem("no login").header("WWW-Authenticate", text("how to log in"))),
            ("403", problem("not allowed")),
            ("421", problem("this server has another name than the request's Host")),
            ("429", problem("too many requests, sessions or failed logins").header("Retry-After", seconds())),
            ("503", maintenance()),
        ];
        refusals.map(|(status, response)| (status.to_owned(), response.build().into())).into()
    }
}

/// Closed for maintenance is told in the form that the caller accepts, and everything else as a problem.
fn maintenance() -> ResponseBuilder {
    let what =
        "maintenance (a problem of type about:blank), or nothing can be taken in or given at the moment (another type)";
    let page = || Content::new(Some(String::schema()));
    problem(what).content("text/html", page()).content("text/plain", page()).header("Retry-After", seconds())
}

fn problem(description: &str) -> ResponseBuilder {
    let body = Content::new(Some(Ref::from_schema_name(ProblemBody::name())));
    ResponseBuilder::new().description(description).content(PROBLEM, body)
}

fn text(description: &str) -> Header {
    HeaderBuilder::new().description(Some(description)).build()
}

fn seconds() -> Header {
    let schema =
        Object::builder().schema_type(Type::Integer).format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)));
    HeaderBuilder::new()
        .schema(Some(schema.minimum(Some(0))))
        .description(Some("seconds until it is worth asking again"))
        .build()
}
