//! A small HTTP client: one request on one connection, over TCP or a Unix socket.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Sends a request over `stream` and returns the head of the answer; the body follows.
///
/// # Errors
/// When the connection breaks.
pub async fn send<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<http::Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Makes a request without a body.
///
/// # Errors
/// When the path is none.
pub fn get(host: &str, path: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    Ok(Request::get(path)
        .header("host", host)
        .body(Full::default())?)
}

/// Fetches a page; `host` goes into the Host header.
///
/// # Errors
/// When it does not come within `patience`, or not with 200.
pub async fn fetch(
    addr: SocketAddr,
    host: &str,
    path: &str,
    patience: Duration,
) -> anyhow::Result<String> {
    let page = async {
        let stream = TcpStream::connect(addr).await?;
        let response = send(stream, get(host, path)?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(
            status == StatusCode::OK,
            "http://{host}{path} answers {status}"
        );
        anyhow::Ok(String::from_utf8_lossy(&body).into_owned())
    };
    let what = || format!("cannot fetch http://{host}{path} from {addr}");
    timeout(patience, page)
        .await
        .with_context(what)?
        .with_context(what)
}

/// The daemon's API, over its Unix socket or a listener.
#[derive(Debug, Clone)]
pub enum Api {
    /// A listener.
    Tcp(SocketAddr),
    /// The Unix socket.
    Unix(std::path::PathBuf),
}

impl Api {
    /// The API at a Unix socket.
    #[must_use]
    pub fn unix(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When the daemon does not answer, or not with what was asked for.
    pub async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let body = self.exchange(get(&self.host(), path)?).await?;
        serde_json::from_slice(&body).with_context(|| format!("GET {path} makes no sense"))
    }

    /// Reads a document as text.
    ///
    /// # Errors
    /// When the daemon does not answer, or not with 2xx.
    pub async fn text(&self, path: &str) -> anyhow::Result<String> {
        let body = self.exchange(get(&self.host(), path)?).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends a JSON document.
    ///
    /// # Errors
    /// When the daemon does not answer, or not with 2xx.
    pub async fn post(
        &self,
        path: &str,
        document: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        let request = Request::post(path)
            .header("host", self.host())
            .header("content-type", "application/json")
            .body(Full::new(serde_json::to_vec(document)?.into()))?;
        let body = self.exchange(request).await?;
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Opens the stream of events.
    ///
    /// # Errors
    /// When the daemon does not answer, or not with 200.
    pub async fn events(&self) -> anyhow::Result<Events> {
        let response = self.connect(get(&self.host(), "/api/v1/events")?).await?;
        let status = response.status();
        ensure!(
            status == StatusCode::OK,
            "GET /api/v1/events answers {status}"
        );
        Ok(Events {
            body: response.into_body(),
            text: String::new(),
        })
    }

    fn host(&self) -> String {
        match self {
            Self::Tcp(addr) => addr.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
        let what = format!("{} {}", request.method(), request.uri());
        let answer = async {
            let response = self.connect(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            if !status.is_success() {
                bail!("{status}: {}", String::from_utf8_lossy(&body));
            }
            Ok(body)
        };
        let answer = timeout(PATIENCE, answer).await;
        answer
            .with_context(|| format!("{what} takes too long"))?
            .context(what)
    }

    async fn connect(
        &self,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<http::Response<Incoming>> {
        match self {
            Self::Tcp(addr) => send(TcpStream::connect(addr).await?, request).await,
            Self::Unix(path) => send(UnixStream::connect(path).await?, request).await,
        }
    }
}

/// A stream of server-sent events.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    text: String,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: String,
}

impl Events {
    /// Waits for an event called `name`.
    ///
    /// # Errors
    /// When none comes in time, or the stream ends.
    pub async fn wait(&mut self, name: &str, patience: Duration) -> anyhow::Result<Event> {
        let wait = async {
            loop {
                let event = self.next().await?;
                if event.name == name {
                    return anyhow::Ok(event);
                }
            }
        };
        timeout(patience, wait)
            .await
            .with_context(|| format!("no event {name} came"))?
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// When the stream ends.
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = Event::parse(block);
                self.text = rest.to_owned();
                if let Some(event) = event {
                    return Ok(event);
                }
                continue;
            }
            let frame = self
                .body
                .frame()
                .await
                .context("the stream of events ended")??;
            if let Ok(data) = frame.into_data() {
                self.text.push_str(&String::from_utf8_lossy(&data));
            }
        }
    }
}

impl Event {
    fn parse(block: &str) -> Option<Self> {
        let field = |name: &str| {
            let lines = block
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let values: Vec<_> = lines
                .map(|value| value.strip_prefix(' ').unwrap_or(value))
                .collect();
            (!values.is_empty()).then(|| values.join("\n"))
        };
        let name = field("event").unwrap_or_else(|| "message".to_owned());
        Some(Self {
            name,
            data: field("data")?,
        })
    }
}

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_apart_and_comments_are_none() {
        let event = Event::parse("id: 3.1\nevent: mapping.opened\ndata: {\"a\":1}").unwrap();
        assert_eq!(
            event,
            Event {
                name: "mapping.opened".into(),
                data: "{\"a\":1}".into()
            }
        );
        assert_eq!(Event::parse(": keep-alive"), None);
    }
}
