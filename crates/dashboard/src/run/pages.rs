//! The pages, embedded in the program.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use rust_embed::RustEmbed;

use super::answer::{self, Id};

#[derive(RustEmbed)]
#[folder = "../../web"]
struct Pages;

pub(super) async fn index() -> Response {
    page("index.html")
}

pub(super) async fn file(Id(file): Id<String>) -> Response {
    match kind(&file) {
        Some(_) => page(&file),
        None => answer::no_such_page().await.into_response(),
    }
}

fn page(name: &str) -> Response {
    let (Some(kind), Some(file)) = (kind(name), Pages::get(name)) else {
        let status = http::StatusCode::NOT_FOUND;
        return answer::problem(status, "not-found", "there is no such page").into_response();
    };
    let mut response = file.data.into_owned().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn kind(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "css" => Some("text/css; charset=utf-8"),
        "html" => Some("text/html; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}
