//! The list of port mappings (WANIPConnection:2 §2.3.25).

use std::net::Ipv4Addr;

use mapping::Protocol;

use super::xml::Document;

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Whose packets pass; empty for everybody's.
    pub remote_host: String,
    /// Where remotes knock.
    pub external_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Where the server listens.
    pub internal_port: u16,
    /// The server.
    pub internal_client: Ipv4Addr,
    /// What it is for.
    pub description: &'a str,
    /// How many seconds are left.
    pub lease: u64,
}

/// Emits the fragment. The prose of §2.3.25 calls the fields attributes; its sample and its
/// schema have elements, and so do control points.
#[must_use]
pub fn emit<'a>(entries: impl Iterator<Item = Entry<'a>>) -> String {
    let mut document = Document::fragment();
    let schema = format!("{NAMESPACE} http://www.upnp.org/schemas/gw/WANIPConnection-v2.xsd");
    let attributes = [
        ("xmlns:p", NAMESPACE),
        ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
        ("xsi:schemaLocation", &schema),
    ];
    document.start("p:PortMappingList", &attributes);
    for entry in entries {
        document.start("p:PortMappingEntry", &[]);
        document.leaf("p:NewRemoteHost", &entry.remote_host);
        document.leaf("p:NewExternalPort", &entry.external_port.to_string());
        let protocol = entry.protocol.as_str().to_ascii_uppercase();
        document.leaf("p:NewProtocol", &protocol);
        document.leaf("p:NewInternalPort", &entry.internal_port.to_string());
        document.leaf("p:NewInternalClient", &entry.internal_client.to_string());
        document.leaf("p:NewEnabled", "1");
        document.leaf("p:NewDescription", entry.description);
        document.leaf("p:NewLeaseTime", &entry.lease.to_string());
        document.end();
    }
    document.finish()
}

const NAMESPACE: &str = "urn:schemas-upnp-org:gw:WANIPConnection";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u_10_list_is_the_one_of_the_standard() {
        let entry = Entry {
            remote_host: String::new(),
            external_port: 443,
            protocol: Protocol::Tcp,
            internal_port: 8080,
            internal_client: [192, 168, 64, 20].into(),
            description: "a & b",
            lease: 60,
        };

        insta::assert_snapshot!(emit([entry].into_iter()), @r#"<p:PortMappingList xmlns:p="urn:schemas-upnp-org:gw:WANIPConnection" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="urn:schemas-upnp-org:gw:WANIPConnection http://www.upnp.org/schemas/gw/WANIPConnection-v2.xsd"><p:PortMappingEntry><p:NewRemoteHost></p:NewRemoteHost><p:NewExternalPort>443</p:NewExternalPort><p:NewProtocol>TCP</p:NewProtocol><p:NewInternalPort>8080</p:NewInternalPort><p:NewInternalClient>192.168.64.20</p:NewInternalClient><p:NewEnabled>1</p:NewEnabled><p:NewDescription>a &amp; b</p:NewDescription><p:NewLeaseTime>60</p:NewLeaseTime></p:PortMappingEntry></p:PortMappingList>"#);
    }
}
