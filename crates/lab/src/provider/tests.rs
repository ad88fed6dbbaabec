//! The resolver between a stub and two servers.

use hickory_proto::rr::rdata::AAAA;

use super::*;
use crate::{Node, dns};

#[tokio::test]
async fn the_resolver_follows_a_delegation_and_remembers_until_it_is_told_to_forget() {
    let node = Node::new("internet").unwrap();
    for addr in ["::a", "::b", "::c"] {
        node.add_address("lo", &format!("2001:db8{addr}/128"))
            .await
            .unwrap();
    }
    let at = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
    let parent = Provider::new("example", at(0xa), Key::random("k")).unwrap();
    let child = Provider::new("home.example", at(0xb), Key::random("k")).unwrap();
    set(
        &parent,
        "home.example.",
        RData::NS(NS(name("ns.home.example."))),
    );
    set(&parent, "ns.home.example.", RData::AAAA(AAAA(at(0xb))));
    set(&child, "camera.home.example.", RData::AAAA(AAAA(at(1))));
    let (resolving, served) = (Arc::clone(&parent), Arc::clone(&child));
    let serve = async move || {
        resolving
            .serve(Role::Parent, SocketAddr::new(at(0xa).into(), 53))
            .await?;
        served
            .serve(Role::Parent, SocketAddr::new(at(0xb).into(), 53))
            .await?;
        resolving
            .serve(Role::Resolver, SocketAddr::new(at(0xc).into(), 53))
            .await
    };
    node.run(serve).await.unwrap();
    let ask = |what: &'static str, kind| {
        let resolver = SocketAddr::new(at(0xc).into(), 53);
        node.run(async move || dns::lookup(resolver, what, kind, Duration::from_secs(60)).await)
    };

    let first = ask("camera.home.example", RecordType::AAAA).await.unwrap();
    assert_eq!(first.one_v6().unwrap(), at(1));
    let none = ask("camera.home.example", RecordType::A).await.unwrap();
    assert_eq!((none.code.as_str(), none.addrs.len()), ("No Error", 0));
    let unknown = ask("toaster.home.example", RecordType::AAAA).await.unwrap();
    assert_eq!(unknown.code, "Non-Existent Domain");

    child
        .zone
        .lock()
        .unwrap()
        .clear(&name("camera.home.example."));
    set(&child, "camera.home.example.", RData::AAAA(AAAA(at(2))));
    let remembered = ask("camera.home.example", RecordType::AAAA).await.unwrap();
    assert_eq!(remembered.one_v6().unwrap(), at(1));
    parent.flush_resolver();
    let anew = ask("camera.home.example", RecordType::AAAA).await.unwrap();
    assert_eq!(anew.one_v6().unwrap(), at(2));
}

fn set(provider: &Provider, owner: &str, data: RData) {
    provider
        .zone
        .lock()
        .unwrap()
        .add(Record::from_rdata(name(owner), 600, data));
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}
