//! Who may ask what: pure decisions over the head of a request.

use std::net::SocketAddr;

use http::{HeaderMap, Method, Uri, header};

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A TCP listener and the peer's address.
    Tcp {
        /// The port that the listener is bound to.
        port: u16,
        /// The other end.
        peer: SocketAddr,
    },
    /// The Unix socket and the peer's user.
    Unix {
        /// Whether the user is root or the daemon's own.
        trusted: bool,
    },
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The Host header names somebody else: a page of another site speaks (DNS rebinding).
    ForeignHost,
    /// A page of another site speaks.
    ForeignOrigin,
    /// The peer is not on this machine.
    NotLoopback,
    /// Changes come over the Unix socket.
    ReadOnly,
    /// The peer's user may not change anything.
    UserNotAllowed,
}

impl Denied {
    /// Every reason.
    pub(crate) const ALL: [Self; 5] = [
        Self::ForeignHost,
        Self::ForeignOrigin,
        Self::NotLoopback,
        Self::ReadOnly,
        Self::UserNotAllowed,
    ];

    /// The name of its counter.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ForeignHost => "foreign_host",
            Self::ForeignOrigin => "foreign_origin",
            Self::NotLoopback => "not_loopback",
            Self::ReadOnly => "read_only",
            Self::UserNotAllowed => "user_not_allowed",
        }
    }

    /// What the client is told.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::ForeignHost => "the Host header does not name this machine's loopback address",
            Self::ForeignOrigin => "requests of other sites are not answered",
            Self::NotLoopback => "only this machine is answered",
            Self::ReadOnly => "changes are made over the Unix socket, by the command line",
            Self::UserNotAllowed => "only root and the daemon's own user may change something",
        }
    }
}

/// Decides over a request before anything of it is looked at.
pub(crate) fn admit(
    origin: Origin,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Denied> {
    let reads = method == Method::GET || method == Method::HEAD;
    match origin {
        Origin::Unix { trusted } if trusted || reads => Ok(()),
        Origin::Unix { .. } => Err(Denied::UserNotAllowed),
        Origin::Tcp { port, peer } => {
            if !peer.ip().to_canonical().is_loopback() {
                return Err(Denied::NotLoopback);
            }
            let mut hosts = headers.get_all(header::HOST).iter();
            let host = hosts.next().and_then(|host| host.to_str().ok());
            if hosts.next().is_some() || !host.is_some_and(|host| is_ours(host, port)) {
                return Err(Denied::ForeignHost);
            }
            // RFC 9112 §3.2.2: a whole URI says who is meant, whatever the Host header says
            let authority = uri.authority().map(http::uri::Authority::as_str);
            if authority.is_some_and(|host| !is_ours(host, port)) {
                return Err(Denied::ForeignHost);
            }
            if is_embedded_elsewhere(headers) {
                return Err(Denied::ForeignOrigin);
            }
            if let Some(origin) = headers.get(header::ORIGIN) {
                let ours = origin
                    .to_str()
                    .ok()
                    .and_then(|text| text.strip_prefix("http://"));
                if !ours.is_some_and(|host| is_ours(host, port)) {
                    return Err(Denied::ForeignOrigin);
                }
            }
            if reads { Ok(()) } else { Err(Denied::ReadOnly) }
        }
    }
}

/// Tells whether a page of another site asks without the person going here: it could not read
/// the answer, but it could hold every event stream. Browsers say it in Sec-Fetch-Site.
fn is_embedded_elsewhere(headers: &HeaderMap) -> bool {
    let says = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let foreign =
        says("sec-fetch-site").is_some_and(|site| !["same-origin", "none"].contains(&site));
    let comes_here =
        says("sec-fetch-mode") == Some("navigate") && says("sec-fetch-dest") == Some("document");
    foreign && !comes_here
}

fn is_ours(host: &str, port: u16) -> bool {
    let suffix = format!(":{port}");
    let name = match host.strip_suffix(&suffix) {
        Some(name) => name,
        None if port == 80 => host,
        None => return false,
    };
    ["127.0.0.1", "[::1]", "localhost"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_reads() {
        for host in ["127.0.0.1:8464", "localhost:8464", "[::1]:8464"] {
            assert_eq!(tcp("127.0.0.1:5", "GET", &[("host", host)]), Ok(()));
        }
        let own = [
            ("host", "127.0.0.1:8464"),
            ("origin", "http://127.0.0.1:8464"),
        ];
        assert_eq!(tcp("127.0.0.1:5", "GET", &own), Ok(()));
    }

    #[test]
    fn t_8_foreign_host_and_origin_are_turned_away() {
        for host in [
            "evil.example",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.0.0.1.evil.example:8464",
            "",
        ] {
            let denied = Err(Denied::ForeignHost);
            assert_eq!(
                tcp("127.0.0.1:5", "GET", &[("host", host)]),
                denied,
                "{host}"
            );
        }
        assert_eq!(tcp("127.0.0.1:5", "GET", &[]), Err(Denied::ForeignHost));
        let twice = [("host", "127.0.0.1:8464"), ("host", "evil.example")];
        assert_eq!(tcp("127.0.0.1:5", "GET", &twice), Err(Denied::ForeignHost));
        let foreign = [
            ("host", "127.0.0.1:8464"),
            ("origin", "https://evil.example"),
        ];
        assert_eq!(
            tcp("127.0.0.1:5", "GET", &foreign),
            Err(Denied::ForeignOrigin)
        );
    }

    #[test]
    fn t_8_whole_uri_names_the_host_too() {
        let ask = |uri: &str| {
            let mut headers = HeaderMap::new();
            headers.append("host", "127.0.0.1:8464".parse().unwrap());
            let origin = Origin::Tcp {
                port: 8464,
                peer: "127.0.0.1:5".parse().unwrap(),
            };
            admit(origin, &Method::GET, &uri.parse().unwrap(), &headers)
        };

        assert_eq!(ask("http://127.0.0.1:8464/"), Ok(()));
        assert_eq!(ask("http://evil.example/"), Err(Denied::ForeignHost));
        assert_eq!(ask("http://evil@127.0.0.1:8464/"), Err(Denied::ForeignHost));
    }

    #[test]
    fn t_8_pages_of_other_sites_embed_nothing_but_may_link_here() {
        let ask = |site, mode, dest| {
            let headers = [
                ("host", "127.0.0.1:8464"),
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ];
            tcp("127.0.0.1:5", "GET", &headers)
        };
        let denied = Err(Denied::ForeignOrigin);

        assert_eq!(ask("cross-site", "no-cors", "image"), denied);
        assert_eq!(ask("same-site", "cors", "empty"), denied);
        assert_eq!(ask("cross-site", "navigate", "iframe"), denied);
        assert_eq!(ask("cross-site", "navigate", "document"), Ok(()));
        assert_eq!(ask("same-origin", "cors", "empty"), Ok(()));
        assert_eq!(ask("none", "navigate", "document"), Ok(()));
    }

    #[test]
    fn tcp_never_writes_and_never_answers_strangers() {
        let host = [("host", "127.0.0.1:8464")];
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            assert_eq!(tcp("127.0.0.1:5", method, &host), Err(Denied::ReadOnly));
        }
        assert_eq!(
            tcp("192.168.64.9:5", "GET", &host),
            Err(Denied::NotLoopback)
        );
    }

    #[test]
    fn unix_socket_writes_for_trusted_users_only() {
        let ask = |trusted, method: &str| {
            let method = method.parse().unwrap();
            admit(
                Origin::Unix { trusted },
                &method,
                &Uri::default(),
                &HeaderMap::new(),
            )
        };

        assert_eq!(ask(true, "POST"), Ok(()));
        assert_eq!(ask(false, "POST"), Err(Denied::UserNotAllowed));
        assert_eq!(ask(false, "GET"), Ok(()));
    }

    fn tcp(peer: &str, method: &str, headers: &[(&'static str, &str)]) -> Result<(), Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let origin = Origin::Tcp {
            port: 8464,
            peer: peer.parse().unwrap(),
        };
        admit(origin, &method.parse().unwrap(), &Uri::default(), &map)
    }
}
