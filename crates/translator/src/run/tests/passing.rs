//! What passes, and what does not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mapping::{
    BootId, ExternalPort, Outcome, Protocol, Request, Requester, Subject, UnmapRequest, UnmapTarget,
};

use super::home::*;
use crate::event::EndReason;
use crate::run::*;
use crate::verdict::DropReason;

#[test]
fn server_without_default_route_talks_to_a_remote() {
    in_namespaces(async {
        let mut home = Home::build().await;
        let server = home.wires.server;
        home.open(Protocol::Tcp, 80, 8080).await;
        home.open(Protocol::Udp, 5000, 5001).await;
        let listener = home.wires.at(Place::Server, || tcp((server, 8080)));
        let echo = home.wires.at(Place::Server, || udp((server, 5001)));
        let socket = home.wires.at(Place::Remote, || udp((REMOTE, 0)));
        let stream = home.wires.connect(home.nsp(), 80);
        let to = SocketAddr::from((home.nsp().embed(server), 5000));

        home.work_while(async {
            let (served, asked) = tokio::join!(serve(&listener), ask(stream.await.unwrap()));
            assert_eq!(
                served.ip(),
                IpAddr::from(POOL),
                "the remote appears as the pool"
            );
            assert_eq!(asked, sent());

            socket.send_to(b"ping", to).await.unwrap();
            let mut buf = [0; 9];
            let (len, from) = echo.recv_from(&mut buf).await.unwrap();
            assert_eq!(from.ip(), IpAddr::from(POOL));
            echo.send_to(&buf[..len], from).await.unwrap();
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            assert_eq!((&buf[..len], from), (&b"ping"[..], to));
        })
        .await;

        let counters = home.worker.translator.counters();
        assert_eq!((counters.sessions.tcp, counters.sessions.udp), (1, 1));
        let headers = counters.six_to_four.bytes - sent().len() as u64;
        assert!(
            headers < 20 * counters.six_to_four.packets,
            "super-packets come: {counters:?}"
        );
        assert_eq!(home.worker.pump.refused(), 0);
        let page = observer::page(
            &home.worker.translator,
            gateway::SessionFilter {
                server: Some(server),
                ..gateway::SessionFilter::default()
            },
            gateway::SessionCursor(0),
            home.worker.clock.mono(),
        );
        assert!(
            page.sessions
                .iter()
                .all(|session| session.ends.remote.0 == REMOTE)
        );
        assert_eq!((page.sessions.len(), page.next), (2, None));

        let udp = gateway::SessionFilter {
            protocol: Some(gateway::SessionProtocol::Udp),
            ..gateway::SessionFilter::default()
        };
        let now = home.worker.clock.mono();
        let first = gateway::SessionCursor(0);
        let ended = observer::end(&mut home.worker.translator, udp, first, now);
        assert_eq!((ended.count, ended.next), (1, None));
        let page = observer::page(&home.worker.translator, udp, first, now);
        assert_eq!(page.sessions, []);
        let counters = home.worker.translator.counters();
        assert_eq!(
            (counters.sessions.tcp, counters.ended(EndReason::Requested)),
            (1, 1)
        );
    });
}

#[test]
fn closed_port_does_not_answer_and_is_counted() {
    in_namespaces(async {
        let mut home = Home::build().await;
        home.open(Protocol::Tcp, 80, 8080).await;
        let stream = tokio::spawn(home.wires.connect(home.nsp(), 81));

        // that the remote asks again shows that nobody answered the first time
        home.work_until("two are dropped", |worker| {
            worker.translator.counters().drops.get(DropReason::Closed) >= 2
        })
        .await;

        assert!(!stream.is_finished());
    });
}

#[test]
fn what_the_gateway_grants_passes_and_what_it_closes_ends() {
    in_namespaces(async {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().to_owned();
        let config = gateway::Config {
            site: site(),
            state,
            boot_id: BootId([1; 16]),
            policy: mapping::Policy::default(),
            key: Some([7; 16]),
        };
        let (handle, writer) = gateway::start(config, Clock::new()).await.unwrap();
        let server = handle
            .snapshot()
            .lease_candidate(CAMERA, |_| false)
            .unwrap();
        let wires = Wires::build(server).await;
        let (observer, inbox) = Observer::new();
        let cancel = CancellationToken::new();
        let running = tokio::spawn(run(settings(), &handle, inbox, cancel.clone()));
        let writing = tokio::spawn(writer.run(cancel.clone()));
        let listener = wires.at(Place::Server, || tcp((server, 8080)));

        let granted = async |request| {
            let outcome = handle.request(request).await;
            assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
        };
        granted(prefix("2001:db8:64::/56", Duration::ZERO)).await;
        granted(lease(server)).await;
        granted(map(Protocol::Tcp, 80, 8080)).await;

        let nsp = newest_nsp(&handle.snapshot());
        let (served, asked) = tokio::join!(serve(&listener), async {
            ask(wires.connect(nsp, 80).await.unwrap()).await
        });
        assert_eq!((served.ip(), asked), (IpAddr::from(POOL), sent()));
        let all = gateway::SessionFilter::default();
        let page = sessions(&observer, all).await;
        assert_eq!(page.sessions.len(), 1);
        let gone = gateway::SessionFilter {
            id: page.sessions.first().map(|session| gateway::SessionId {
                tag: !session.id.tag,
                ..session.id
            }),
            ..all
        };
        let ended = gateway::Observe::end_sessions(&observer, gone).await;
        assert_eq!(ended, Ok(gateway::Ended { count: 0 }), "another session");

        let target = UnmapTarget::External(Protocol::Tcp, ExternalPort::new(80).unwrap());
        let subject = Subject::Admin(CAMERA);
        granted(Request::Unmap(UnmapRequest {
            subject,
            requester: Requester::Cli,
            target,
        }))
        .await;
        let page = sessions(&observer, all).await;
        assert_eq!(page.sessions, []);
        let counts = gateway::Observe::counters(&observer).await;
        let ended = counts
            .iter()
            .find(|count| count.reason == "closed" && count.value == 1);
        assert!(ended.is_some(), "{counts:?}");

        cancel.cancel();
        running.await.unwrap().unwrap();
        writing.await.unwrap().unwrap();
    });
}

async fn sessions(observer: &Observer, filter: gateway::SessionFilter) -> gateway::SessionPage {
    let first = gateway::SessionCursor(0);
    let page = gateway::Observe::sessions(observer, filter, first).await;
    page.unwrap()
}
