//! Step 3: what names stand for.

use std::net::{IpAddr, SocketAddr};

use anyhow::ensure;
use hickory_proto::rr::RecordType;

use super::Facts;
use crate::dns::{self, Addresses};
use crate::home::{Home, PATIENCE, Resident, fqdn};
use crate::{addressing, provider};

/// Outside a server has an AAAA made of the NSP and its address, and no A; on the LAN it has
/// its private A too, and other names are forwarded without anything being made up.
///
/// # Errors
/// When a name stands for something else.
pub async fn resolve(home: &mut Home) -> anyhow::Result<Facts> {
    let mut facts = Facts::default();
    home.wait_glue_current().await?;
    let name = fqdn("camera");
    let outside = home.lookup_current("camera").await?;
    ensure!(
        outside.ttl_s <= 1,
        "{name} may be remembered for {} s",
        outside.ttl_s
    );
    let no_a = home.lookup(&name, RecordType::A).await?;
    ensure!(
        no_a.addrs.is_empty() && no_a.code == NO_ERROR,
        "{name} A? -> {no_a}"
    );
    facts.add(format_args!(
        "remote -> provider's resolver {} -> Portico: {name} AAAA? -> {outside}, \
         which is {} + {}; A? -> {no_a}",
        addressing::RESOLVER,
        home.delegation().nsp(),
        home.resident("camera")?.addr()?
    ));

    let camera = home.resident("camera")?;
    let nas = home.resident("nas")?.addr()?;
    let private = ask_lan(camera, &fqdn("nas"), RecordType::A).await?;
    ensure!(
        private.addrs == [IpAddr::V4(nas)],
        "on the LAN nas A? -> {private}"
    );
    let public = ask_lan(camera, &fqdn("nas"), RecordType::AAAA).await?;
    ensure!(
        public.one_v6()? == home.delegation().embed(nas),
        "on the LAN nas AAAA? -> {public}"
    );
    let www = format!("www.{}", addressing::PARENT_ZONE);
    let forwarded = ask_lan(camera, &www, RecordType::A).await?;
    ensure!(
        forwarded.addrs == [IpAddr::from(provider::WWW)],
        "{www} A? -> {forwarded}"
    );
    let nothing = ask_lan(camera, &www, RecordType::AAAA).await?;
    ensure!(
        nothing.addrs.is_empty() && nothing.code == NO_ERROR,
        "{www} AAAA? -> {nothing}"
    );
    facts.add(format_args!(
        "camera -> Portico: {} A? -> {private}, AAAA? -> {public}; {www} A? -> {forwarded}, \
         forwarded; AAAA? -> {nothing}",
        fqdn("nas"),
    ));
    Ok(facts)
}

/// Asks the resolver that DHCP named.
async fn ask_lan(resident: &Resident, name: &str, kind: RecordType) -> anyhow::Result<Addresses> {
    let lease = resident.lease.as_ref();
    let resolver = lease.map(crate::dhcp::Lease::resolver);
    let resolver = resolver.unwrap_or_else(|| anyhow::bail!("{} has no lease", resident.name))?;
    let name = name.to_owned();
    let ask = async move || dns::lookup(SocketAddr::new(resolver, 53), &name, kind, PATIENCE).await;
    resident.node.run(ask).await
}

const NO_ERROR: &str = "No Error";
