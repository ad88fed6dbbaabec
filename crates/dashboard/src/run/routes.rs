//! Which path leads where.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use http::{HeaderValue, StatusCode, header};

use super::{Shared, answer, change, decide, live, pages, read, sessions, upstream};
use crate::guard::{self, Origin};

/// The routes for a connection from `origin`.
pub(super) fn router(shared: Arc<Shared>, origin: Origin) -> Router {
    let guarded = Arc::clone(&shared);
    let guard = middleware::from_fn(move |request: Request, next: Next| {
        let shared = Arc::clone(&guarded);
        async move { guard(&shared, origin, request, next).await }
    });
    let api = Router::new()
        .route("/status", get(read::status))
        .route("/hosts", get(read::hosts))
        .route("/hosts/{id}", get(read::host).merge(patch(change::host)))
        .route("/mappings", get(read::mappings).post(change::open))
        .route("/mappings/{id}", get(read::mapping).delete(change::close))
        .route("/mappings/{id}/approve", post(decide::approve))
        .route("/mappings/{id}/deny", post(decide::deny))
        .route("/permissions", get(read::permissions))
        .route(
            "/permissions/{host}/{protocol}/{port}",
            delete(decide::forget),
        )
        .route("/prefixes", get(read::prefixes).post(change::prefix))
        .route(
            "/sessions",
            get(sessions::list).delete(sessions::end_fitting),
        )
        .route("/sessions/log", get(sessions::log))
        .route("/sessions/{id}", delete(sessions::end))
        .route("/upstream", get(upstream::chain))
        .route("/upstream/ports", get(upstream::ports))
        .route("/counters", get(read::counters))
        .route("/audit", get(read::audit))
        .route("/events", get(live::events));
    Router::new()
        .nest("/api/v1", api)
        .route("/healthz", get(read::healthz))
        .route("/", get(pages::index))
        .route("/{file}", get(pages::file))
        .fallback(answer::no_such_page)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(guard)
        .with_state(shared)
}

async fn guard(shared: &Shared, origin: Origin, request: Request, next: Next) -> Response {
    shared.counters.requests.fetch_add(1, Ordering::Relaxed);
    let mut response =
        match guard::admit(origin, request.method(), request.uri(), request.headers()) {
            Ok(()) => next.run(request).await,
            Err(denied) => {
                shared.counters.denied(denied);
                answer::problem(StatusCode::FORBIDDEN, "not-allowed", denied.detail())
                    .into_response()
            }
        };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Scripts and styles come from here alone, and no text becomes markup.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                   connect-src 'self'; base-uri 'none'; form-action 'none'; \
                   frame-ancestors 'none'; require-trusted-types-for 'script'";

/// No body of the API is longer.
const BODY_MAX: usize = 16 * 1024;
