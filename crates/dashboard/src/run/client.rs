//! The typed client of the API over its Unix socket.

use std::path::{Path, PathBuf};

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::model::{
    Approval, AuditView, CounterView, EndedView, HostPatch, HostView, LogView, MappingView,
    NewMapping, NewPrefix, Page, PermissionView, PolicyPatch, PrefixView, Problem, SessionChoice,
    SessionView, Status, UpstreamView,
};

/// Asks a running daemon.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Makes a client of the daemon whose API socket is at `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Reads the daemon's state.
    ///
    /// # Errors
    /// See [`ClientError`]; so for every call.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/status").await
    }

    /// Reads which gateways stand in front of the daemon.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn upstream(&self) -> Result<UpstreamView, ClientError> {
        self.get("/upstream").await
    }

    /// Lists every host.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn hosts(&self) -> Result<Vec<HostView>, ClientError> {
        self.list("/hosts?limit=1000").await
    }

    /// Reads a host by MAC or name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn host(&self, id: &str) -> Result<HostView, ClientError> {
        self.get(&format!("/hosts/{}", encode(id))).await
    }

    /// Gives a host another name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rename(&self, id: &str, name: &str) -> Result<HostView, ClientError> {
        let body = HostPatch {
            name: Some(name.to_owned()),
            policy: None,
        };
        self.patch_host(id, &body).await
    }

    /// Says what a host may do; `None` is what the policy says.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_policy(
        &self,
        id: &str,
        policy: Option<PolicyPatch>,
    ) -> Result<HostView, ClientError> {
        let body = HostPatch {
            name: None,
            policy: Some(policy),
        };
        self.patch_host(id, &body).await
    }

    async fn patch_host(&self, id: &str, body: &HostPatch) -> Result<HostView, ClientError> {
        let path = format!("/hosts/{}", encode(id));
        self.send(Method::PATCH, &path, Some(body)).await
    }

    /// Lets a port open that waits, or gives an open one an end.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn approve(&self, id: u64, approval: Approval) -> Result<MappingView, ClientError> {
        let path = format!("/mappings/{id}/approve");
        self.send(Method::POST, &path, Some(&approval)).await
    }

    /// Keeps a port closed that waits, or closes an open one for good.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn deny(&self, id: u64) -> Result<(), ClientError> {
        let path = format!("/mappings/{id}/deny");
        self.call::<()>(Method::POST, &path, None).await.map(|_| ())
    }

    /// Lists what people decided about ports.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn permissions(&self) -> Result<Vec<PermissionView>, ClientError> {
        self.list("/permissions?limit=1000").await
    }

    /// Takes back what a person decided about a port.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn forget_permission(
        &self,
        host: &str,
        protocol: &str,
        port: u16,
    ) -> Result<(), ClientError> {
        let path = format!("/permissions/{}/{protocol}/{port}", encode(host));
        let forgotten = self.call::<()>(Method::DELETE, &path, None).await;
        forgotten.map(|_| ())
    }

    /// Lists every mapping, and every request about which a person is asked.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn mappings(&self) -> Result<Vec<MappingView>, ClientError> {
        self.list("/mappings?limit=1000").await
    }

    /// Opens a port.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open(&self, mapping: &NewMapping) -> Result<MappingView, ClientError> {
        self.send(Method::POST, "/mappings", Some(mapping)).await
    }

    /// Closes a port.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn close(&self, id: u64) -> Result<(), ClientError> {
        self.call::<()>(Method::DELETE, &format!("/mappings/{id}"), None)
            .await
            .map(|_| ())
    }

    /// Lists the prefix generations.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn prefixes(&self) -> Result<Vec<PrefixView>, ClientError> {
        self.list("/prefixes?limit=1000").await
    }

    /// Tells the daemon which prefix the provider delegated.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_prefix(&self, prefix: &NewPrefix) -> Result<PrefixView, ClientError> {
        self.send(Method::POST, "/prefixes", Some(prefix)).await
    }

    /// Lists the live sessions that fit.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn sessions(&self, choice: &SessionChoice) -> Result<Vec<SessionView>, ClientError> {
        let choice = query(choice.parameters());
        self.list(&format!("/sessions?limit=1000{choice}")).await
    }

    /// Ends one live session.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn end_session(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("/sessions/{}", encode(id));
        self.call::<()>(Method::DELETE, &path, None)
            .await
            .map(|_| ())
    }

    /// Ends every live session that fits; every one at all takes `all`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn end_sessions(
        &self,
        choice: &SessionChoice,
        all: bool,
    ) -> Result<EndedView, ClientError> {
        let all = all.then(|| ("all", "true".to_owned()));
        let path = query(choice.parameters().into_iter().chain(all));
        self.send::<(), _>(Method::DELETE, &format!("/sessions?{path}"), None)
            .await
    }

    /// Reads from the session log which sessions that fit were alive in the second `at`, seconds
    /// since 1970.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn sessions_at(
        &self,
        choice: &SessionChoice,
        at: u64,
    ) -> Result<LogView, ClientError> {
        self.logged(choice, &format!("at={at}")).await
    }

    /// As [`Self::sessions_at`], of the seconds from `from` to `until`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn sessions_between(
        &self,
        choice: &SessionChoice,
        from: u64,
        until: u64,
    ) -> Result<LogView, ClientError> {
        let span = format!("from={from}&until={until}");
        self.logged(choice, &span).await
    }

    async fn logged(&self, choice: &SessionChoice, span: &str) -> Result<LogView, ClientError> {
        let path = query(choice.parameters());
        let mut whole = LogView {
            items: Vec::new(),
            next: None,
            since: None,
        };
        let mut cursor = String::new();
        loop {
            let page: LogView = self
                .get(&format!("/sessions/log?limit=1000&{span}{path}{cursor}"))
                .await?;
            whole.items.extend(page.items);
            whole.since = page.since;
            match page.next {
                Some(next) => cursor = format!("&cursor={}", encode(&next)),
                None => return Ok(whole),
            }
        }
    }

    /// Reads every counter.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn counters(&self) -> Result<Vec<CounterView>, ClientError> {
        self.list("/counters?limit=1000").await
    }

    /// Reads the newest audit entries.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditView>, ClientError> {
        let page: Page<AuditView> = self.get(&format!("/audit?limit={limit}")).await?;
        Ok(page.items)
    }

    /// Reads every page of a list.
    async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let at = cursor.map(|cursor| format!("&cursor={}", encode(&cursor)));
            let page: Page<T> = self
                .get(&format!("{path}{}", at.unwrap_or_default()))
                .await?;
            items.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(items);
            }
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.send::<(), T>(Method::GET, path, None).await
    }

    async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let bytes = self.call(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(ClientError::Answer)
    }

    async fn call<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Bytes, ClientError> {
        let unreachable = |source| ClientError::Unreachable {
            socket: self.socket.clone(),
            source,
        };
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(unreachable)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(ClientError::Answer)?;
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(ClientError::Request)?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX)
                .collect()
                .await;
            let bytes = body.map_err(|_| ClientError::Truncated)?.to_bytes();
            drop(sender);
            Ok::<_, ClientError>((status, bytes))
        };
        // the connection moves only while it is polled
        let (exchanged, _) = tokio::join!(exchange, connection);
        let (status, bytes) = exchanged?;
        if status.is_success() {
            return Ok(bytes);
        }
        Err(match serde_json::from_slice(&bytes) {
            Ok(problem) => ClientError::Problem(problem),
            Err(_) => ClientError::Status(status),
        })
    }
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The answer is not what the API promises.
    #[error("the daemon's answer was not understood")]
    Answer(#[source] serde_json::Error),
    /// The connection broke.
    #[error("the connection to the daemon broke")]
    Http(#[from] hyper::Error),
    /// The daemon said no, and why.
    #[error("{}", .0.detail)]
    Problem(Problem),
    /// The request could not be written down.
    #[error("the request cannot be sent")]
    Request(#[source] http::Error),
    /// The daemon said no.
    #[error("the daemon answered {0}")]
    Status(StatusCode),
    /// The answer broke off or was too long.
    #[error("the daemon's answer broke off")]
    Truncated,
    /// No daemon answers there.
    #[error("no daemon answers at {}", socket.display())]
    Unreachable {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Writes parameters that follow others.
fn query(parameters: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let parameters = parameters.into_iter();
    parameters
        .map(|(name, value)| format!("&{name}={}", encode(&value)))
        .collect()
}

/// Percent-encodes what is no unreserved character (RFC 3986 §2.3).
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// No answer of the API is longer.
const ANSWER_MAX: usize = 16 * 1024 * 1024;
