//! What an HTTP request means: documents and actions, for nobody but control points on the LAN.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use mapping::{Client, Now, Outcome, PinholeId, Snapshot};

use super::connection::Request;
use super::control::{Caller, Continuation, Decision, Traffic, counted, decide, finish, measured};
use crate::device::keyed;
use crate::wire::description;
use crate::wire::http::{self, Head, Method, Response, Status, Version};
use crate::wire::soap;
use crate::{Action, Counters, Edition, ErrorCode, Event, Identity, Resource, ServiceKind};

/// Answers requests; holds the documents and no other state.
#[derive(Debug)]
pub struct Web {
    identity: Identity,
    resources: BTreeMap<String, Content>,
    config_id: u32,
    counters: Counters,
}

#[derive(Debug)]
enum Content {
    Control(Edition, ServiceKind),
    Document(Vec<u8>),
    Events(Edition, ServiceKind),
}

/// Who sent a request, and at which address of ours it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The device that asks.
    pub client: Client,
    /// The link of its address, if that is a link-local one.
    pub scope: u32,
    /// Our end of the connection.
    pub local: SocketAddr,
}

/// What follows from a request.
#[derive(Debug)]
pub enum Step {
    /// The answer.
    Answer(Response),
    /// The core decides; its outcome goes to [`Web::handle_outcome`].
    Ask(Box<mapping::Request>, Pending),
    /// What came in through a pinhole goes to [`Web::handle_packets`].
    Count(PinholeId, Pending),
    /// What the WAN interface counted goes to [`Web::handle_traffic`].
    Measure(Pending),
    /// A matter of [`super::Gena`].
    Subscribe(Subscribe),
}

/// An action that waits for the core, or for somebody's counters.
#[derive(Debug)]
pub struct Pending {
    service: String,
    continuation: Continuation,
}

/// SUBSCRIBE or UNSUBSCRIBE, for a service that has events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    pub(super) method: Method,
    pub(super) head: Head,
    pub(super) edition: Edition,
    pub(super) service: ServiceKind,
    pub(super) client: Client,
    pub(super) scope: u32,
    pub(super) local: IpAddr,
}

impl Web {
    /// Makes the documents.
    #[must_use]
    pub fn new(identity: &Identity, counters: Counters) -> Self {
        let config_id = config_id(identity);
        let content = |resource| match resource {
            Resource::Control(edition, service) => Content::Control(edition, service),
            Resource::Description(edition) => {
                Content::Document(description::device(edition, identity, config_id).into_bytes())
            }
            Resource::Events(edition, service) => Content::Events(edition, service),
            Resource::Scpd(edition, service) => {
                Content::Document(description::scpd(edition, service).into_bytes())
            }
        };
        let resources = Resource::all()
            .map(|resource| (resource.path(identity), content(resource)))
            .collect();
        Self {
            identity: identity.clone(),
            resources,
            config_id,
            counters,
        }
    }

    /// Returns the number that changes with the documents (CONFIGID.UPNP.ORG).
    #[must_use]
    pub const fn config_id(&self) -> u32 {
        self.config_id
    }

    /// Takes a request.
    pub fn handle_request(
        &self,
        request: &Request,
        peer: Peer,
        snapshot: &Snapshot,
        now: Now,
    ) -> Step {
        match self.route(&request.head, peer) {
            Ok(Content::Document(document)) => {
                self.counters.count(Event::DocumentServed);
                let mut response = Response::xml(Status::Ok, document.clone());
                // UDA 1.1 §2.11
                if request.head.has("accept-language") {
                    let language = ("Content-Language", "en".to_owned());
                    response.headers.push(language);
                }
                Step::Answer(response)
            }
            Ok(Content::Control(edition, service)) => {
                let target = (*edition, *service);
                match self.control(request, target, peer.client, snapshot, now) {
                    Ok(step) => step,
                    Err((error, event)) => Step::Answer(self.fault(error, event)),
                }
            }
            Ok(Content::Events(edition, service)) => Step::Subscribe(Subscribe {
                method: request.head.method,
                head: request.head.clone(),
                edition: *edition,
                service: *service,
                client: peer.client,
                scope: peer.scope,
                local: peer.local.ip(),
            }),
            Err(refused) => {
                self.counters.count(refused.event);
                let mut response = Response::refusal(refused.status, refused.why);
                let allow = refused.allow.map(|methods| ("Allow", methods.to_owned()));
                response.headers.extend(allow);
                Step::Answer(response)
            }
        }
    }

    /// Takes the core's outcome of an action.
    #[must_use]
    pub fn handle_outcome(&self, pending: &Pending, outcome: &Outcome) -> Response {
        self.answer(pending, finish(pending.continuation, outcome))
    }

    /// Takes what the WAN interface counted; `None` if nobody can tell.
    #[must_use]
    pub fn handle_traffic(&self, pending: &Pending, traffic: Option<Traffic>) -> Response {
        self.answer(pending, measured(pending.continuation, traffic))
    }

    /// Takes how many packets came in through a pinhole; `None` if nobody counts them.
    #[must_use]
    pub fn handle_packets(&self, pending: &Pending, packets: Option<u64>) -> Response {
        self.answer(pending, counted(pending.continuation, packets))
    }

    fn answer(&self, pending: &Pending, result: Result<Vec<String>, ErrorCode>) -> Response {
        match result {
            Ok(outputs) => self.done(pending.continuation.action, &pending.service, outputs),
            Err(error) => self.fault(error, Event::ActionRefused),
        }
    }

    /// Finds out what a request is for; whatever a web page could have sent is refused first.
    fn route(&self, head: &Head, peer: Peer) -> Result<&Content, Refused> {
        let path = path(head, peer.local)?;
        if head.has("origin") {
            let why = "requests of web pages are refused";
            return Err(Refused::new(Status::Forbidden, Event::HttpOrigin, why));
        }
        let nothing = Refused::new(
            Status::NotFound,
            Event::HttpNotFound,
            "there is nothing at this path",
        );
        let content = self.resources.get(path).ok_or(nothing)?;
        let (fits, methods) = match content {
            Content::Control(..) => (head.method == Method::Post, "POST"),
            Content::Document(_) => {
                let fits = matches!(head.method, Method::Get | Method::Head);
                (fits, "GET, HEAD")
            }
            Content::Events(..) => {
                let fits = matches!(head.method, Method::Subscribe | Method::Unsubscribe);
                (fits, "SUBSCRIBE, UNSUBSCRIBE")
            }
        };
        if !fits {
            let why = "the method does not fit";
            // RFC 9110 §15.5.6: those of this resource
            return Err(Refused {
                allow: Some(methods),
                ..Refused::new(Status::MethodNotAllowed, Event::HttpMethod, why)
            });
        }
        if matches!(content, Content::Control(..)) {
            if !is_xml(head) {
                let why = "the content type must be text/xml";
                let (status, event) = (Status::UnsupportedMediaType, Event::HttpContentType);
                return Err(Refused::new(status, event, why));
            }
            if soap_action(head).is_none() {
                let why = "the SOAPACTION header must name a service and an action";
                let (status, event) = (Status::BadRequest, Event::SoapActionMissing);
                return Err(Refused::new(status, event, why));
            }
        }
        Ok(content)
    }

    fn control(
        &self,
        request: &Request,
        (edition, service): (Edition, ServiceKind),
        client: Client,
        snapshot: &Snapshot,
        now: Now,
    ) -> Result<Step, (ErrorCode, Event)> {
        // miniupnpc takes every answer without an error code for success
        let malformed = (ErrorCode::InvalidArgs, Event::SoapMalformed);
        let call = soap::parse(&request.body).map_err(|_| malformed)?;
        let header = soap_action(&request.head);
        if header != Some((call.service.as_str(), call.action.as_str())) {
            return Err((ErrorCode::InvalidAction, Event::SoapActionMismatch));
        }
        let unknown = (ErrorCode::InvalidAction, Event::ActionUnknown);
        let version = service.spoken(edition, &call.service).ok_or(unknown)?;
        let action = Action::of(service, version).find(|action| action.name() == call.action);
        let action = action.ok_or(unknown)?;
        let caller = Caller {
            client,
            edition,
            version,
            identity: &self.identity,
        };
        let decision = decide(action, &call, caller, snapshot, now)?;
        let pending = Pending {
            service: call.service,
            continuation: Continuation { action, version },
        };
        Ok(match decision {
            Decision::Answer(outputs) => Step::Answer(self.done(action, &pending.service, outputs)),
            Decision::Ask(request) => Step::Ask(request, pending),
            Decision::Count(id) => Step::Count(id, pending),
            Decision::Measure => Step::Measure(pending),
        })
    }

    fn done(&self, action: Action, service: &str, outputs: Vec<String>) -> Response {
        self.counters.count(Event::ActionDone);
        let names = action.outputs().iter().map(|argument| argument.name);
        let outputs: Vec<_> = names.zip(outputs).collect();
        Response::xml(Status::Ok, soap::response(service, action.name(), &outputs))
    }

    fn fault(&self, error: ErrorCode, event: Event) -> Response {
        self.counters.count(event);
        Response::xml(Status::InternalServerError, soap::fault(error))
    }
}

/// What to answer, what to count, and why.
#[derive(Debug, Clone, Copy)]
struct Refused {
    status: Status,
    event: Event,
    why: &'static str,
    /// The methods that would fit.
    allow: Option<&'static str>,
}

impl Refused {
    const fn new(status: Status, event: Event, why: &'static str) -> Self {
        Self {
            status,
            event,
            why,
            allow: None,
        }
    }
}

/// Returns the path if the request was meant for us by address: a name that somebody else
/// rebinds to our address is not ours (threat 8).
fn path(head: &Head, local: SocketAddr) -> Result<&str, Refused> {
    let why = "the host must be our address";
    let foreign = Refused::new(Status::Forbidden, Event::HttpForeignHost, why);
    // some control points leave the port out
    let is_ours = |host: &str| {
        http::authority(host).is_some_and(|(addr, port)| {
            addr == local.ip() && port.is_none_or(|port| port == local.port())
        })
    };
    let mut hosts = head.all("host");
    match (hosts.next(), hosts.next(), head.version) {
        (Some(host), None, _) if is_ours(host) => {}
        (None, _, Version::Http10) => {}
        (Some(_), None, _) => return Err(foreign),
        _ => {
            let why = "there must be one Host header";
            let (status, event) = (Status::BadRequest, Event::HttpForeignHost);
            return Err(Refused::new(status, event, why));
        }
    }
    // RFC 3986 §3.1: a scheme has no case
    let scheme = head.target.split_at_checked("http://".len());
    let Some((_, absolute)) = scheme.filter(|(it, _)| it.eq_ignore_ascii_case("http://")) else {
        return Ok(&head.target);
    };
    let path = absolute.find('/').unwrap_or(absolute.len());
    let (host, path) = absolute.split_at_checked(path).ok_or(foreign)?;
    if is_ours(host) {
        Ok(path)
    } else {
        Err(foreign)
    }
}

/// UDA 1.1 §3.1.1: `"service#action"`, in quotation marks, which some leave out.
fn soap_action(head: &Head) -> Option<(&str, &str)> {
    let value = head.one("soapaction")?;
    let bare = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    let (service, action) = bare.unwrap_or(value).split_once('#')?;
    (!service.is_empty() && !action.is_empty()).then_some((service, action))
}

fn is_xml(head: &Head) -> bool {
    let value = head.one("content-type").unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    ["text/xml", "application/xml", "application/soap+xml"]
        .iter()
        .any(|xml| essence.eq_ignore_ascii_case(xml))
}

/// UDA 1.1 §1.2.2: 0 to 2^24 - 1, another number for other documents.
fn config_id(identity: &Identity) -> u32 {
    let mut all = String::new();
    for edition in Edition::ALL {
        all.push_str(&description::device(edition, identity, 0));
        for service in ServiceKind::of(edition) {
            all.push_str(&description::scpd(edition, service));
        }
    }
    u32::try_from(keyed(&[0; 16], &all) & 0xff_ffff).unwrap_or_default()
}
