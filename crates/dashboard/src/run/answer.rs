//! Problem documents (RFC 9457).

use std::collections::BTreeMap;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use mapping::Refusal;

use crate::model::Problem;

/// An answer that is a problem.
#[derive(Debug)]
pub(super) struct ProblemAnswer(StatusCode, Problem);

/// Makes a problem of a status, a slug and what is wrong here.
pub(super) fn problem(status: StatusCode, slug: &str, detail: impl Into<String>) -> ProblemAnswer {
    let document = Problem {
        kind: format!("urn:portico:problem:{slug}"),
        title: slug.replace('-', " "),
        status: status.as_u16(),
        detail: detail.into(),
    };
    ProblemAnswer(status, document)
}

/// The parameter of a path; one that does not fit is a problem like every other.
#[derive(Debug)]
pub(super) struct Id<T>(pub(super) T);

impl<S: Send + Sync, T> FromRequestParts<S> for Id<T>
where
    Path<T>: FromRequestParts<S, Rejection = PathRejection>,
{
    type Rejection = ProblemAnswer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemAnswer> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(rejection) => Err(problem(
                rejection.status(),
                "path-invalid",
                rejection.body_text(),
            )),
        }
    }
}

/// The parameters of a query. One that is given twice is a problem: of two filters the second must
/// not choose alone.
#[derive(Debug)]
pub(super) struct Parameters(pub(super) BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ProblemAnswer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemAnswer> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = query.map_err(|rejection| invalid(rejection.body_text()))?;
        let mut parameters = BTreeMap::new();
        for (name, value) in pairs {
            if parameters.contains_key(&name) {
                return Err(invalid(format!("there is more than one parameter {name}")));
            }
            parameters.insert(name, value);
        }
        Ok(Self(parameters))
    }
}

/// Makes the problem of a parameter.
pub(super) fn invalid(detail: impl Into<String>) -> ProblemAnswer {
    problem(StatusCode::BAD_REQUEST, "parameter-invalid", detail)
}

impl IntoResponse for ProblemAnswer {
    fn into_response(self) -> Response {
        let mut response = (self.0, axum::Json(self.1)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

impl From<Refusal> for ProblemAnswer {
    fn from(refusal: Refusal) -> Self {
        let (status, slug) = code(refusal);
        problem(status, slug, refusal.to_string())
    }
}

/// The dashboard's dialect of a refusal.
pub(super) const fn code(refusal: Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::AddressNotFree => (StatusCode::CONFLICT, "address-not-free"),
        Refusal::ExternalPortDenied => (StatusCode::FORBIDDEN, "external-port-denied"),
        Refusal::ExternalPortTaken => (StatusCode::CONFLICT, "external-port-taken"),
        Refusal::ForeignMapping { .. } => (StatusCode::CONFLICT, "foreign-mapping"),
        Refusal::NameNotFree => (StatusCode::CONFLICT, "name-not-free"),
        Refusal::NoLease => (StatusCode::CONFLICT, "host-away"),
        Refusal::NoPrefix => (StatusCode::SERVICE_UNAVAILABLE, "no-prefix"),
        Refusal::NotCarried => (StatusCode::NOT_IMPLEMENTED, "not-carried"),
        Refusal::NotFound => (StatusCode::NOT_FOUND, "not-found"),
        Refusal::OutboundMapping => (StatusCode::CONFLICT, "outbound-mapping"),
        Refusal::PortDenied => (StatusCode::FORBIDDEN, "port-denied"),
        Refusal::PrefixInvalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "prefix-invalid"),
        Refusal::QuotaExceeded => (StatusCode::CONFLICT, "quota-exceeded"),
        Refusal::StaticMapping => (StatusCode::CONFLICT, "static-mapping"),
        Refusal::TooManyFilters => (StatusCode::CONFLICT, "too-many-filters"),
        Refusal::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Refusal::Waiting => (StatusCode::CONFLICT, "waiting"),
    }
}

pub(super) async fn no_such_page() -> ProblemAnswer {
    problem(StatusCode::NOT_FOUND, "not-found", "there is no such page")
}

pub(super) async fn no_such_method() -> ProblemAnswer {
    let detail = "this path does not take this method";
    problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}
