//! Who may open what, what people are asked, and what becomes of what they decide.

use super::*;

mod decisions;
mod of_host;

#[test]
fn port_outside_the_class_waits_for_a_person() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");

    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));
    home.pass(MINUTE / 2);
    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));

    let snapshot = home.core.snapshot();
    let waiting: Vec<_> = snapshot.waiting().collect();
    assert_eq!(waiting.len(), 1, "one for each port");
    assert_eq!(snapshot.waiting_of(CAMERA).count(), 1);
    assert_eq!(
        (waiting[0].internal_port.get(), waiting[0].host),
        (22, CAMERA)
    );
    assert_eq!(snapshot.mapping_count(), 0);
    assert_eq!(home.said(), ["mapping.requested"]);
}

#[test]
fn hasty_request_is_written_at_most_once_a_minute() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let ask = |home: &mut Home| {
        home.core
            .handle_request(&Request::Map(pcp(camera, 22, 1)), home.now);
        home.core.finish(home.now).delta
    };
    let first = ask(&mut home).unwrap();
    assert_eq!(first.waiting.len(), 1);

    home.now.mono += MINUTE - Duration::from_secs(1);
    home.now.wall = home.now.wall + (MINUTE - Duration::from_secs(1));
    assert_eq!(ask(&mut home), None);
    home.now.mono += Duration::from_secs(1);
    home.now.wall = home.now.wall + Duration::from_secs(1);
    let later = ask(&mut home).unwrap();

    assert_eq!((later.waiting.len(), later.audit.len()), (1, 0));
    let waiting = home.core.snapshot().waiting().next().unwrap();
    assert_eq!(waiting.last_asked, home.now.wall);
    assert_eq!(waiting.first_asked, first.audit[0].at);
}

#[test]
fn device_that_is_only_allowed_its_class_is_denied_the_rest() {
    let mut home = Home::with_policy(policy(Access::Allow));
    let camera = home.join(CAMERA, "camera");

    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::PortDenied));
    assert!(home.open(pcp(camera, 443, 1)).is_ok());
    assert_eq!(home.core.snapshot().waiting().count(), 0);
}

#[test]
fn device_that_is_denied_opens_nothing() {
    let mut home = Home::with_policy(policy(Access::Deny));
    let camera = home.join(CAMERA, "camera");

    for port in [22, 443, 8080] {
        assert_eq!(home.open(pcp(camera, port, 1)), Err(Refusal::PortDenied));
    }
    assert!(home.open(by_admin(443)).is_ok(), "an admin may");
}

#[test]
fn with_no_class_everything_waits() {
    let mut home = Home::with_policy(Policy {
        auto_allow: PortClass::None,
        ..Policy::default()
    });
    let camera = home.join(CAMERA, "camera");

    assert_eq!(home.open(pcp(camera, 443, 1)), Err(Refusal::Waiting));
    assert_eq!(home.open(pcp(camera, 8080, 1)), Err(Refusal::Waiting));
    assert_eq!(home.core.snapshot().waiting().count(), 2);
}

#[test]
fn always_rejected_ports_open_for_nobody() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");

    assert_eq!(home.open(pcp(camera, 445, 1)), Err(Refusal::PortDenied));
    assert_eq!(home.open(by_admin(445)), Err(Refusal::PortDenied));
    let outside = MapRequest {
        external: External::Exact(external(445)),
        ..upnp(camera, 8080)
    };
    assert_eq!(home.open(outside), Err(Refusal::ExternalPortDenied));
    assert_eq!(home.core.snapshot().waiting().count(), 0);
}

#[test]
fn which_of_the_two_ports_is_denied_is_told() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.rule(CAMERA, Access::Allow, Some(PortClass::High), None, None);
    let required = |internal, port| MapRequest {
        external: External::Required(external(port)),
        ..pcp(camera, internal, 1)
    };

    let outside = home.open(required(8080, 443));
    assert_eq!(outside, Err(Refusal::ExternalPortDenied));
    let inside = home.open(required(443, 8443));
    assert_eq!(inside, Err(Refusal::PortDenied));
    assert_eq!(home.open(required(443, 443)), Err(Refusal::PortDenied));
    assert_eq!(home.ports(), [0; 0]);
}

#[test]
fn another_configuration_closes_what_it_does_not_permit_and_leaves_a_line() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.carry(None, true);
    home.open(by_admin(25)).unwrap();
    for port in [443, 554, 8080] {
        home.open(pcp(camera, port, 1)).unwrap();
    }
    home.open(pcp(camera, 22, 1)).unwrap_err();
    let policy = Policy {
        auto_allow: PortClass::High,
        always_reject: vec!["8080".parse().unwrap()],
        ..Policy::default()
    };

    home.core.handle_policy(policy.clone(), home.now);
    let batch = home.core.finish(home.now);

    let delta = batch.delta.unwrap();
    assert_eq!(delta.policy.as_deref(), Some(&policy));
    let actions: Vec<_> = delta.audit.iter().map(|it| it.action).collect();
    assert_eq!(actions[0], AuditAction::PolicyChanged);
    assert_eq!(actions[1..], [AuditAction::MappingClosed; 3]);
    assert_eq!(home.ports(), [25], "what an admin opened stays");
    assert_eq!(home.core.snapshot().waiting().count(), 1);
    // the same again is nothing
    home.core.handle_policy(policy.clone(), home.now);
    assert_eq!(home.core.finish(home.now).delta, None);
    let deny = Policy {
        new_device: Access::Deny,
        ..policy
    };
    home.core.handle_policy(deny, home.now);
    home.core.finish(home.now);
    assert_eq!(home.core.snapshot().waiting().count(), 0);
}

#[test]
fn configuration_survives_a_disk_that_is_read_again() {
    let mut home = Home::with_prefix();
    let image = home.image();
    let policy = Policy {
        auto_allow: PortClass::None,
        ..Policy::default()
    };
    home.core.handle_policy(policy.clone(), home.now);
    home.core.finish(home.now);

    let mut core = home.core.reread(image, home.now).unwrap();

    assert_eq!(core.snapshot().policy(), &policy);
    let delta = core.finish(home.now).delta.unwrap();
    assert_eq!(delta.policy.as_deref(), Some(&policy), "to be stored yet");
}

#[test]
fn external_port_outside_the_class_waits_too_if_it_is_the_only_one() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let exactly = |port| MapRequest {
        external: External::Exact(external(port)),
        ..upnp(camera, 8022)
    };

    assert_eq!(home.open(exactly(22)), Err(Refusal::Waiting));
    let any = MapRequest {
        external: External::Any(external(22)),
        ..upnp(camera, 8023)
    };
    assert_eq!(home.open(any).unwrap().0.external_port.get(), 8023);
    assert!(home.open(exactly(8022)).is_ok());
    assert_eq!(
        home.core.snapshot().waiting().count(),
        1,
        "another external port answers nothing"
    );

    let id = home.waiting();
    home.decide(id, Decision::Allow(None)).unwrap();

    assert_eq!(home.ports(), [22, 8022, 8023]);
}

#[test]
fn quota_bounds_a_host_and_not_its_neighbour() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let nas = home.join(NAS, "nas");
    for port in 2000..2032 {
        home.open(pcp(camera, port, 1)).unwrap();
    }

    assert_eq!(home.open(pcp(camera, 2032, 1)), Err(Refusal::QuotaExceeded));
    assert!(
        home.open(pcp(camera, 2000, 1)).is_ok(),
        "a renewal is no new mapping"
    );
    assert!(home.open(pcp(nas, 2032, 1)).is_ok());
}

#[test]
fn quota_counts_what_is_there_over_closings_expiries_and_restarts() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    for port in 2000..2032 {
        home.open(pcp(camera, port, 1)).unwrap();
    }
    home.prolong(CAMERA, camera);
    home.open(pcp(camera, 2000, 1)).unwrap();
    let close = unmap(camera, Requester::Pcp, 2001, Some(1));
    assert_eq!(home.close(close), Ok(1));

    assert!(home.open(pcp(camera, 2032, 1)).is_ok());
    assert_eq!(home.open(pcp(camera, 2033, 1)), Err(Refusal::QuotaExceeded));

    for boot in [BOOT, BootId([9; 16])] {
        home.core = home.restart(boot);
        home.core.finish(home.now);
        assert_eq!(home.open(pcp(camera, 2033, 1)), Err(Refusal::QuotaExceeded));
    }

    home.pass(HOUR);
    assert_eq!(home.core.snapshot().mapping_count(), 0);
    for port in 3000..3032 {
        home.open(pcp(camera, port, 1)).unwrap();
    }
    assert_eq!(home.open(pcp(camera, 3032, 1)), Err(Refusal::QuotaExceeded));
}

#[test]
fn m_11_what_waits_counts_against_the_quota() {
    let mut home = Home::with_policy(Policy {
        max_per_device: 2,
        ..Policy::default()
    });
    let camera = home.join(CAMERA, "camera");
    let nas = home.join(NAS, "nas");
    home.open(pcp(camera, 8080, 1)).unwrap();
    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));

    assert_eq!(home.open(pcp(camera, 25, 1)), Err(Refusal::QuotaExceeded));
    assert_eq!(home.open(pcp(camera, 8081, 1)), Err(Refusal::QuotaExceeded));
    assert_eq!(home.open(pcp(camera, 22, 1)), Err(Refusal::Waiting));
    assert_eq!(home.open(pcp(nas, 22, 1)), Err(Refusal::Waiting));
}

#[test]
fn what_waits_ends_when_the_host_leaves() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.open(pcp(camera, 22, 1)).unwrap_err();
    let id = home.waiting();
    home.request(Request::Release(ReleaseRequest {
        mac: CAMERA,
        addr: camera,
    }));

    assert_eq!(home.core.snapshot().waiting().count(), 0);
    assert_eq!(
        home.decide(id, Decision::Allow(None)),
        Err(Refusal::NotFound)
    );
}

#[test]
fn what_waits_ends_after_the_longest_lease() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    home.prolong(CAMERA, camera);
    home.open(pcp(camera, 22, 1)).unwrap_err();

    home.pass(Policy::default().max_lease - Duration::from_nanos(1));
    assert_eq!(home.core.snapshot().waiting().count(), 1);
    home.pass(Duration::from_nanos(1));

    assert_eq!(home.core.snapshot().waiting().count(), 0);
}

#[test]
fn client_with_an_ipv6_address_is_known_by_its_mac() {
    let mut home = Home::with_prefix();
    let camera = home.join(CAMERA, "camera");
    let from = |addr: &str, mac| MapRequest {
        subject: Subject::Client(Client {
            addr: addr.parse().unwrap(),
            mac,
        }),
        ..pcp(camera, 8080, 1)
    };

    for addr in ["fe80::1", "fd00::1", "2001:db8:5::1"] {
        let (mapping, _) = home.open(from(addr, Some(CAMERA))).unwrap();
        assert_eq!((mapping.host, mapping.server), (CAMERA, camera));
        assert_eq!(home.open(from(addr, None)), Err(Refusal::NoLease));
        assert_eq!(home.open(from(addr, Some(NAS))), Err(Refusal::NoLease));
    }
}

fn policy(new_device: Access) -> Policy {
    Policy {
        new_device,
        ..Policy::default()
    }
}

fn by_admin(port: u16) -> MapRequest {
    MapRequest {
        subject: Subject::Admin(CAMERA),
        requester: Requester::Cli,
        lifetime: None,
        nonce: None,
        ..pcp(Ipv4Addr::UNSPECIFIED, port, 0)
    }
}

impl Home {
    /// Returns the one request that waits.
    #[track_caller]
    pub(super) fn waiting(&self) -> MappingId {
        let ids: Vec<_> = self.core.snapshot().waiting().map(|it| it.id).collect();
        assert_eq!(ids.len(), 1);
        ids[0]
    }

    pub(super) fn decide(
        &mut self,
        id: MappingId,
        decision: Decision,
    ) -> Result<Option<Arc<Mapping>>, Refusal> {
        let request = DecideRequest {
            id,
            requester: Requester::Cli,
            decision,
        };
        match self.request(Request::Decide(request)) {
            Outcome::Granted(Grant::Mapped { mapping, .. }) => Ok(Some(mapping)),
            Outcome::Granted(_) => Ok(None),
            Outcome::Refused(refusal) => Err(refusal),
        }
    }

    pub(super) fn rule(
        &mut self,
        host: Mac,
        access: Access,
        ports: Option<PortClass>,
        quota: Option<u32>,
        lasts: Option<Duration>,
    ) {
        let request = HostPolicyRequest {
            host,
            requester: Requester::Cli,
            access: Some(access),
            ports,
            quota,
            lasts,
        };
        let outcome = self.request(Request::HostPolicy(request));
        assert_eq!(outcome, Outcome::Granted(Grant::Done));
    }

    fn unrule(&mut self, host: Mac) {
        let request = HostPolicyRequest {
            host,
            requester: Requester::Cli,
            access: None,
            ports: None,
            quota: None,
            lasts: None,
        };
        let outcome = self.request(Request::HostPolicy(request));
        assert_eq!(outcome, Outcome::Granted(Grant::Done));
    }

    /// Returns the external ports that are open, rising.
    pub(super) fn ports(&self) -> Vec<u16> {
        let snapshot = self.core.snapshot();
        let mut ports: Vec<_> = snapshot
            .mappings()
            .map(|it| it.external_port.get())
            .collect();
        ports.sort_unstable();
        ports
    }

    pub(super) fn left(&self, mapping: &Mapping) -> Duration {
        let expires = mapping.expires.unwrap();
        self.core.snapshot().remaining(expires, self.now)
    }

    /// Returns the names of what was said about ports and policies, oldest first.
    fn said(&self) -> Vec<&'static str> {
        let facts = self.core.snapshot().recent_changes();
        facts
            .filter_map(|(_, change)| match change {
                Change::MappingRequested(_) => Some("mapping.requested"),
                Change::MappingDenied(_) => Some("mapping.denied"),
                Change::MappingOpened(_) => Some("mapping.opened"),
                Change::MappingRenewed(_) => Some("mapping.renewed"),
                Change::MappingClosed { .. } => Some("mapping.closed"),
                Change::HostPolicyChanged(_) => Some("host.policy"),
                _ => None,
            })
            .collect()
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const NONE: [u16; 0] = [];
