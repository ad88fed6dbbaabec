//! The descriptions of the root devices and of the services (UDA 1.1 §2).

use std::collections::BTreeSet;

use super::xml::Document;
use crate::{Action, Argument, DeviceKind, Edition, Identity, Resource, ServiceKind};

/// Writes the description of a root device.
#[must_use]
pub fn device(edition: Edition, identity: &Identity, config_id: u32) -> String {
    let mut document = Document::new();
    let config_id = config_id.to_string();
    let mut attributes = vec![("xmlns", "urn:schemas-upnp-org:device-1-0")];
    // UDA 1.0 knows no configId, and strict control points of its time refuse what they do not
    // know
    if edition == Edition::V2 {
        attributes.push(("configId", &config_id));
    }
    document.start("root", &attributes);
    spec_version(&mut document, edition);
    write_device(
        &mut document,
        DeviceKind::InternetGateway,
        edition,
        identity,
    );
    document.finish()
}

/// Writes the description of a service.
#[must_use]
pub fn scpd(edition: Edition, service: ServiceKind) -> String {
    let version = service.version(edition);
    let mut document = Document::new();
    document.start("scpd", &[("xmlns", "urn:schemas-upnp-org:service-1-0")]);
    spec_version(&mut document, edition);
    document.start("actionList", &[]);
    for action in Action::of(service, version) {
        document.start("action", &[]);
        document.leaf("name", action.name());
        // UDA 1.1 §2.5: no list where there is no argument
        if !(action.inputs().is_empty() && action.outputs().is_empty()) {
            document.start("argumentList", &[]);
            write_arguments(&mut document, action.inputs(), "in");
            write_arguments(&mut document, action.outputs(), "out");
            document.end();
        }
        document.end();
    }
    document.end();
    document.start("serviceStateTable", &[]);
    let evented = service.evented(version);
    let of_actions = Action::of(service, version)
        .flat_map(|action| action.inputs().iter().chain(action.outputs()))
        .map(|argument| argument.variable);
    let mut written = BTreeSet::new();
    for name in of_actions.chain(evented.iter().copied()) {
        if written.insert(name) {
            write_variable(&mut document, name, version, evented.contains(&name));
        }
    }
    document.finish()
}

fn write_device(
    document: &mut Document,
    device: DeviceKind,
    edition: Edition,
    identity: &Identity,
) {
    document.start("device", &[]);
    document.leaf("deviceType", &device.urn(edition));
    document.leaf("friendlyName", "Portico");
    document.leaf("manufacturer", "Portico");
    document.leaf("modelDescription", "NAT64 gateway");
    document.leaf("modelName", "Portico");
    document.leaf("modelNumber", env!("CARGO_PKG_VERSION"));
    document.leaf("UDN", &identity.uuid(edition, device));
    if !device.services(edition).is_empty() {
        document.start("serviceList", &[]);
        for service in device.services(edition) {
            write_service(document, *service, edition, identity);
        }
        document.end();
    }
    if let Some(child) = device.child() {
        document.start("deviceList", &[]);
        write_device(document, child, edition, identity);
        document.end();
    }
    document.end();
}

fn write_service(
    document: &mut Document,
    service: ServiceKind,
    edition: Edition,
    identity: &Identity,
) {
    document.start("service", &[]);
    document.leaf("serviceType", &service.urn(service.version(edition)));
    document.leaf("serviceId", service.id());
    document.leaf("SCPDURL", &Resource::Scpd(edition, service).path(identity));
    document.leaf(
        "controlURL",
        &Resource::Control(edition, service).path(identity),
    );
    document.leaf(
        "eventSubURL",
        &Resource::Events(edition, service).path(identity),
    );
    document.end();
}

fn spec_version(document: &mut Document, edition: Edition) {
    document.start("specVersion", &[]);
    document.leaf("major", "1");
    document.leaf(
        "minor",
        match edition {
            Edition::V1 => "0",
            Edition::V2 => "1",
        },
    );
    document.end();
}

fn write_arguments(document: &mut Document, arguments: &[Argument], direction: &str) {
    for argument in arguments {
        document.start("argument", &[]);
        document.leaf("name", argument.name);
        document.leaf("direction", direction);
        document.leaf("relatedStateVariable", argument.variable);
        document.end();
    }
}

fn write_variable(document: &mut Document, name: &str, version: u8, evented: bool) {
    let send_events = if evented { "yes" } else { "no" };
    document.start("stateVariable", &[("sendEvents", send_events)]);
    document.leaf("name", name);
    let (data_type, allowed) = variable(name, version);
    document.leaf("dataType", data_type);
    match allowed {
        Allowed::Any => {}
        Allowed::List(values) => {
            document.start("allowedValueList", &[]);
            for value in values {
                document.leaf("allowedValue", value);
            }
            document.end();
        }
        Allowed::Range(minimum, maximum) => {
            document.start("allowedValueRange", &[]);
            document.leaf("minimum", minimum);
            document.leaf("maximum", maximum);
            document.end();
        }
    }
    document.end();
}

enum Allowed {
    Any,
    List(&'static [&'static str]),
    Range(&'static str, &'static str),
}

/// The types and allowed values, as the state variables of the services have them
/// (WANIPConnection:2 §2.3). The lists say what we answer and take, not what others may.
fn variable(name: &str, version: u8) -> (&'static str, Allowed) {
    match name {
        "ConnectionStatus" => {
            let values = &["Unconfigured", "Connected", "Disconnected"];
            ("string", Allowed::List(values))
        }
        "ConnectionType" => {
            let values = &["Unconfigured", "IP_Routed", "IP_Bridged"];
            ("string", Allowed::List(values))
        }
        "LastConnectionError" => ("string", Allowed::List(&["ERROR_NONE", "ERROR_UNKNOWN"])),
        "PhysicalLinkStatus" => ("string", Allowed::List(&["Up", "Down"])),
        "PortMappingProtocol" => ("string", Allowed::List(&["TCP", "UDP"])),
        "WANAccessType" => {
            let values = &["DSL", "POTS", "Cable", "Ethernet"];
            ("string", Allowed::List(values))
        }
        "A_ARG_TYPE_Boolean"
        | "A_ARG_TYPE_Manage"
        | "EnabledForInternet"
        | "FirewallEnabled"
        | "InboundPinholeAllowed"
        | "NATEnabled"
        | "PortMappingEnabled"
        | "RSIPAvailable" => ("boolean", Allowed::Any),
        "InternalPort" if version >= 2 => ("ui2", Allowed::Range("1", "65535")),
        "A_ARG_TYPE_Port"
        | "A_ARG_TYPE_Protocol"
        | "A_ARG_TYPE_UniqueID"
        | "ExternalPort"
        | "InternalPort"
        | "MaximumActiveConnections"
        | "NumberOfActiveConnections"
        | "PortMappingNumberOfEntries" => ("ui2", Allowed::Any),
        "A_ARG_TYPE_LeaseTime" => ("ui4", Allowed::Range("1", "86400")),
        "PortMappingLeaseDuration" if version >= 2 => ("ui4", Allowed::Range("0", "604800")),
        "A_ARG_TYPE_OutboundPinholeTimeout"
        | "A_ARG_TYPE_PinholePackets"
        | "AutoDisconnectTime"
        | "IdleDisconnectTime"
        | "Layer1DownstreamMaxBitRate"
        | "Layer1UpstreamMaxBitRate"
        | "PortMappingLeaseDuration"
        | "SystemUpdateID"
        | "TotalBytesReceived"
        | "TotalBytesSent"
        | "TotalPacketsReceived"
        | "TotalPacketsSent"
        | "Uptime"
        | "WarnDisconnectDelay" => ("ui4", Allowed::Any),
        // RemoteHost, InternalClient, ExternalIPAddress, PortMappingDescription, ..
        _ => ("string", Allowed::Any),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u_3_documents_are_the_reviewed_ones() {
        let identity = Identity::new([7; 16]);
        let mut documents = String::new();
        for edition in Edition::ALL {
            documents.push_str(&indented(&device(edition, &identity, 4711)));
            for service in ServiceKind::of(edition) {
                documents.push_str(&indented(&scpd(edition, service)));
            }
        }
        insta::assert_snapshot!("documents", documents);
    }

    #[test]
    fn every_state_variable_is_declared_once() {
        for edition in Edition::ALL {
            for service in ServiceKind::of(edition) {
                let text = scpd(edition, service);
                for action in Action::of(service, service.version(edition)) {
                    for argument in action.inputs().iter().chain(action.outputs()) {
                        let declared = format!("<name>{}</name><dataType>", argument.variable);
                        assert_eq!(text.matches(&declared).count(), 1, "{}", argument.variable);
                    }
                }
            }
        }
    }

    /// One element a line, for people who review.
    fn indented(text: &str) -> String {
        let mut out = String::new();
        let mut depth = 0_usize;
        for part in text.replace("\n", "").replace("><", ">\n<").lines() {
            if part.starts_with("</") {
                depth -= 1;
            }
            out.push_str(&"  ".repeat(depth));
            out.push_str(part);
            out.push('\n');
            if !part.starts_with("</") && !part.starts_with("<?") && !part.contains("</") {
                depth += 1;
            }
        }
        out
    }
}
