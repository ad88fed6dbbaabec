//! A body of any bytes, to every service of a home with a camera.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a scenario stops at the first surprise"
)]

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::time::Duration;

use mapping::{Carriers, Client, Core, LeaseRequest, Mac, Now, PrefixRequest, Request};
use upnp::server::{Caller, Continuation, Decision, Traffic, counted, decide, finish, measured};
use upnp::wire::soap::{self, MAX_ARGUMENTS};
use upnp::{Action, Edition, Identity};

/// Parses the body; an action that it names is carried out.
pub fn run(body: &[u8]) {
    let Ok(call) = soap::parse(body) else {
        return;
    };
    assert!(call.arguments.len() <= MAX_ARGUMENTS);
    HOME.with_borrow_mut(|home| {
        for action in Action::ALL {
            if action.name() == call.action {
                home.call(action, &call);
            }
        }
    });
}

thread_local! {
    static HOME: RefCell<Home> = RefCell::new(Home::new());
}

/// A home in which a camera asks from its IPv4 and its IPv6 address.
struct Home {
    core: Core,
    camera: Ipv4Addr,
    identity: Identity,
    now: Now,
    calls: u32,
}

impl Home {
    fn new() -> Self {
        let (core, now) = super::new_home();
        let camera = core.snapshot().lease_candidate(CAMERA, |_| false).unwrap();
        let mut home = Self {
            core,
            camera,
            identity: Identity::new([7; 16]),
            now,
            calls: 0,
        };
        home.request(&Request::Lease(LeaseRequest {
            mac: CAMERA,
            addr: camera,
            lifetime: Duration::from_secs(1_000_000),
            declared_name: Some("camera".to_owned()),
        }));
        home.request(&Request::Prefix(PrefixRequest {
            delegated: "2001:db8:64::/56".parse().unwrap(),
            nsp: None,
            old_valid: Duration::ZERO,
        }));
        home
    }

    fn call(&mut self, action: Action, call: &soap::Call) {
        self.calls += 1;
        if self.calls.is_multiple_of(256) {
            // with and without a firewall
            let some = self.calls.is_multiple_of(512);
            self.request(&Request::Carriers(Carriers {
                ipv4: some.then_some(Ipv4Addr::new(198, 51, 100, 9)),
                pinholes: some,
            }));
        }
        if self.calls > 10_000 {
            *self = Self::new();
        }
        let from_v6 = self.calls.is_multiple_of(3);
        let client = Client {
            addr: match from_v6 {
                true => "fd00:64::20".parse().unwrap(),
                false => self.camera.into(),
            },
            mac: Some(CAMERA),
        };
        let version = action.since().max(if from_v6 { 2 } else { 1 });
        let caller = Caller {
            client,
            edition: Edition::V2,
            version,
            identity: &self.identity,
        };
        let continuation = Continuation { action, version };
        let outputs = match decide(action, call, caller, self.core.snapshot(), self.now) {
            Ok(Decision::Answer(outputs)) => Ok(outputs),
            Ok(Decision::Ask(request)) => {
                let (outcome, _) = self.core.handle_request(&request, self.now);
                self.core.finish(self.now);
                finish(continuation, &outcome)
            }
            Ok(Decision::Count(id)) => counted(continuation, Some(id.0.into())),
            Ok(Decision::Measure) => measured(continuation, Some(Traffic::default())),
            Err((error, _)) => Err(error),
        };
        match outputs {
            Ok(outputs) => {
                assert_eq!(outputs.len(), action.outputs().len(), "{action:?}");
                let names = action.outputs().iter().map(|output| output.name);
                let outputs: Vec<_> = names.zip(outputs).collect();
                let answer = soap::response(&call.service, action.name(), &outputs);
                // an answer that nobody can read would be no answer
                let read = soap::parse(&answer).unwrap();
                assert_eq!(read.arguments.len(), outputs.len());
            }
            Err(error) => assert!(!soap::fault(error).is_empty()),
        }
        let snapshot = self.core.snapshot();
        assert!(snapshot.mappings().all(|mapping| mapping.host == CAMERA));
    }

    fn request(&mut self, request: &Request) {
        self.core.handle_request(request, self.now);
        self.core.finish(self.now);
    }
}

const CAMERA: Mac = Mac([2, 0, 0, 0, 0, 1]);
