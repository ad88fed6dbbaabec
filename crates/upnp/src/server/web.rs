//! What an HTTP request means: documents and actions, for nobody but control points on the LAN.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use mapping::{Client, Now, Outcome, Snapshot};

use super::connection::Request;
use super::control::{Caller, Continuation, Decision, decide, finish};
use crate::device::keyed;
use crate::wire::description;
use crate::wire::http::{Head, Method, Response, Status, Version};
use crate::wire::soap;
use crate::{Action, Counters, Edition, ErrorCode, Event, Identity, Resource, ServiceKind, action};

/// Answers requests; holds the documents and no other state.
#[derive(Debug)]
pub struct Web {
    endpoint: SocketAddrV4,
    resources: BTreeMap<String, Content>,
    config_id: u32,
    counters: Counters,
}

#[derive(Debug)]
enum Content {
    Control(Edition, ServiceKind),
    Document(Vec<u8>),
}

/// What follows from a request.
#[derive(Debug)]
pub enum Step {
    /// The answer.
    Answer(Response),
    /// The core decides; its outcome goes to [`Web::handle_outcome`].
    Ask(Box<mapping::Request>, Pending),
}

/// An action that waits for the core.
#[derive(Debug)]
pub struct Pending {
    service: String,
    continuation: Continuation,
}

impl Web {
    /// Makes the documents; `endpoint` is where we listen.
    #[must_use]
    pub fn new(endpoint: SocketAddrV4, identity: &Identity, counters: Counters) -> Self {
        let config_id = config_id(identity);
        let content = |resource| match resource {
            Resource::Control(edition, service) => Content::Control(edition, service),
            Resource::Description(edition) => {
                Content::Document(description::device(edition, identity, config_id).into_bytes())
            }
            Resource::Scpd(edition, service) => {
                Content::Document(description::scpd(edition, service).into_bytes())
            }
        };
        let resources = Resource::all()
            .map(|resource| (resource.path(identity), content(resource)))
            .collect();
        Self {
            endpoint,
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

    /// Takes a request of `client`.
    pub fn handle_request(
        &self,
        request: &Request,
        client: Client,
        snapshot: &Snapshot,
        now: Now,
    ) -> Step {
        match self.route(request) {
            Ok(Content::Document(document)) => {
                self.counters.count(Event::DocumentServed);
                Step::Answer(Response::xml(Status::Ok, document.clone()))
            }
            Ok(Content::Control(edition, service)) => {
                self.control(request, *edition, *service, client, snapshot, now)
            }
            Err((status, event, why)) => {
                self.counters.count(event);
                Step::Answer(Response::refusal(status, why))
            }
        }
    }

    /// Takes the core's outcome of an action.
    #[must_use]
    pub fn handle_outcome(&self, pending: &Pending, outcome: &Outcome) -> Response {
        match finish(pending.continuation, outcome) {
            Ok(outputs) => self.done(pending.continuation.action, &pending.service, outputs),
            Err(error) => self.fault(error, Event::ActionRefused),
        }
    }

    /// Finds out what a request is for; whatever a web page could have sent is refused first.
    fn route(&self, request: &Request) -> Result<&Content, (Status, Event, &'static str)> {
        let head = &request.head;
        let path = self.path(head)?;
        if head.has("origin") {
            let why = "requests of web pages are refused";
            return Err((Status::Forbidden, Event::HttpOrigin, why));
        }
        let nothing = (
            Status::NotFound,
            Event::HttpNotFound,
            "there is nothing at this path",
        );
        let content = self.resources.get(path).ok_or(nothing);
        let wrong_method = Err((
            Status::MethodNotAllowed,
            Event::HttpMethod,
            "the method does not fit",
        ));
        match (head.method, content?) {
            (Method::Subscribe | Method::Unsubscribe, _) => Err((
                Status::NotImplemented,
                Event::HttpSubscribe,
                "there are no events",
            )),
            (Method::Get | Method::Head, content @ Content::Document(_)) => Ok(content),
            (Method::Post, content @ Content::Control(..)) => {
                if is_xml(head) {
                    return Ok(content);
                }
                let why = "the content type must be text/xml";
                Err((Status::UnsupportedMediaType, Event::HttpContentType, why))
            }
            (Method::Get | Method::Head, Content::Control(..))
            | (Method::Post, Content::Document(_))
            | (Method::Unknown, _) => wrong_method,
        }
    }

    /// Returns the path if the request was meant for us by address: a name that somebody else
    /// rebinds to our address is not ours (threat 8).
    fn path<'a>(&self, head: &'a Head) -> Result<&'a str, (Status, Event, &'static str)> {
        let foreign = (
            Status::Forbidden,
            Event::HttpForeignHost,
            "the host must be our address",
        );
        let is_ours = |host: &str| {
            // some control points leave the port out
            host.parse() == Ok(self.endpoint) || host.parse() == Ok(*self.endpoint.ip())
        };
        let mut hosts = head.all("host");
        match (hosts.next(), hosts.next(), head.version) {
            (Some(host), None, _) if is_ours(host) => {}
            (None, _, Version::Http10) => {}
            (Some(_), None, _) => return Err(foreign),
            _ => {
                let why = "there must be one Host header";
                return Err((Status::BadRequest, Event::HttpForeignHost, why));
            }
        }
        let Some(absolute) = head.target.strip_prefix("http://") else {
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

    fn control(
        &self,
        request: &Request,
        edition: Edition,
        service: ServiceKind,
        client: Client,
        snapshot: &Snapshot,
        now: Now,
    ) -> Step {
        let Some((header_service, header_action)) = soap_action(&request.head) else {
            self.counters.count(Event::SoapActionMissing);
            let why = "the SOAPACTION header must name a service and an action";
            return Step::Answer(Response::refusal(Status::BadRequest, why));
        };
        let Ok(call) = soap::parse(&request.body) else {
            // miniupnpc takes every answer without an error code for success
            let (error, event) = (ErrorCode::InvalidArgs, Event::SoapMalformed);
            return Step::Answer(self.fault(error, event));
        };
        if call.service != header_service || call.action != header_action {
            let event = Event::SoapActionMismatch;
            return Step::Answer(self.fault(ErrorCode::InvalidAction, event));
        }
        let Some(version) = service.spoken(edition, &call.service) else {
            return Step::Answer(self.fault(ErrorCode::InvalidAction, Event::ActionUnknown));
        };
        let Some(action) = Action::of(service, version).find(|action| action.name() == call.action)
        else {
            let (error, event) = match action::is_standard(service, version, &call.action) {
                true => (ErrorCode::ActionFailed, Event::ActionUnsupported),
                false => (ErrorCode::InvalidAction, Event::ActionUnknown),
            };
            return Step::Answer(self.fault(error, event));
        };
        match decide(action, &call, Caller { client, version }, snapshot, now) {
            Ok(Decision::Answer(outputs)) => {
                Step::Answer(self.done(action, &call.service, outputs))
            }
            Ok(Decision::Ask(request, continuation)) => Step::Ask(
                Box::new(request),
                Pending {
                    service: call.service,
                    continuation,
                },
            ),
            Err((error, event)) => Step::Answer(self.fault(error, event)),
        }
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
        for service in ServiceKind::ALL {
            all.push_str(&description::scpd(edition, service));
        }
    }
    u32::try_from(keyed(&[0; 16], &all) & 0xff_ffff).unwrap_or_default()
}

/// Tells whether a source may speak to us at all: a host of the LAN, not the LAN itself.
pub(crate) fn is_on_lan(source: Ipv4Addr, snapshot: &Snapshot) -> bool {
    let site = snapshot.site();
    site.contains(source) && ![site.network(), site.broadcast(), site.gateway()].contains(&source)
}
