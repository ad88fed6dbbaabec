//! The bytes of NAT-PMP (RFC 6886 §3).

use std::net::Ipv4Addr;

use mapping::Protocol;

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Opcode 0: the gateway's external IPv4 address.
    ExternalAddress,
    /// Opcodes 1 and 2: open, renew or delete a mapping.
    Map(Map),
}

/// The body of a mapping request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// Opcode 1 is UDP, 2 is TCP.
    pub protocol: Protocol,
    /// Where the client listens; zero with a lifetime of zero means all.
    pub internal_port: u16,
    /// What it would like; zero for no preference.
    pub external_port: u16,
    /// In seconds; zero deletes.
    pub lifetime: u32,
}

impl Request {
    /// Reads a request; what follows its last field is ignored.
    ///
    /// # Errors
    /// Says which field cannot be read.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some((&[version, opcode], body)) = bytes.split_first_chunk() else {
            return Err(Malformed::new(Field::Header, bytes.len()));
        };
        if opcode & RESPONSE != 0 {
            return Err(Malformed::new(Field::ResponseBit, 1));
        }
        if version != VERSION {
            return Err(Malformed::new(Field::Version, 0));
        }
        let protocol = match opcode {
            EXTERNAL_ADDRESS => return Ok(Self::ExternalAddress),
            MAP_UDP => Protocol::Udp,
            MAP_TCP => Protocol::Tcp,
            _ => return Err(Malformed::new(Field::Opcode, 1)),
        };
        let Some(&[_, _, i0, i1, e0, e1, l0, l1, l2, l3]) = body.first_chunk() else {
            return Err(Malformed::new(Field::Map, bytes.len()));
        };
        Ok(Self::Map(Map {
            protocol,
            internal_port: u16::from_be_bytes([i0, i1]),
            external_port: u16::from_be_bytes([e0, e1]),
            lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
        }))
    }

    /// Writes the request.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        match self {
            Self::ExternalAddress => vec![VERSION, EXTERNAL_ADDRESS],
            Self::Map(map) => {
                let mut bytes = vec![VERSION, opcode(map.protocol), 0, 0];
                bytes.extend(map.internal_port.to_be_bytes());
                bytes.extend(map.external_port.to_be_bytes());
                bytes.extend(map.lifetime.to_be_bytes());
                bytes
            }
        }
    }
}

/// What the server answers or announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// To opcode 0, and the announcement of RFC 6886 §3.2.1.
    ExternalAddress {
        /// How it went.
        result: ResultCode,
        /// Seconds since the start of epoch.
        epoch: u32,
        /// The address, zero if there is none.
        addr: Ipv4Addr,
    },
    /// To opcodes 1 and 2.
    Map {
        /// How it went.
        result: ResultCode,
        /// Seconds since the start of epoch.
        epoch: u32,
        /// The mapping: the external port is the mapped one, the lifetime the granted one; both
        /// are zero if there is no mapping.
        map: Map,
    },
    /// To a version that is not zero.
    UnsupportedVersion {
        /// Seconds since the start of epoch.
        epoch: u32,
    },
}

impl Response {
    /// Reads a response.
    ///
    /// # Errors
    /// Says which field cannot be read.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let short = Malformed::new(Field::Header, bytes.len());
        let (&[version, code, r0, r1, s0, s1, s2, s3], body) =
            bytes.split_first_chunk().ok_or(short)?;
        let result = ResultCode::from_number(u16::from_be_bytes([r0, r1]));
        let epoch = u32::from_be_bytes([s0, s1, s2, s3]);
        if version != VERSION {
            return Err(Malformed::new(Field::Version, 0));
        }
        let result = result.ok_or(Malformed::new(Field::Result, 2))?;
        if code == EXTERNAL_ADDRESS && result == ResultCode::UnsupportedVersion {
            return Ok(Self::UnsupportedVersion { epoch });
        }
        if code & RESPONSE == 0 {
            return Err(Malformed::new(Field::ResponseBit, 1));
        }
        let protocol = match code & !RESPONSE {
            EXTERNAL_ADDRESS => {
                let addr: [u8; 4] = *body
                    .first_chunk()
                    .ok_or(Malformed::new(Field::Address, bytes.len()))?;
                let addr = addr.into();
                return Ok(Self::ExternalAddress {
                    result,
                    epoch,
                    addr,
                });
            }
            MAP_UDP => Protocol::Udp,
            MAP_TCP => Protocol::Tcp,
            _ => return Err(Malformed::new(Field::Opcode, 1)),
        };
        let Some(&[i0, i1, e0, e1, l0, l1, l2, l3]) = body.first_chunk() else {
            return Err(Malformed::new(Field::Map, bytes.len()));
        };
        let map = Map {
            protocol,
            internal_port: u16::from_be_bytes([i0, i1]),
            external_port: u16::from_be_bytes([e0, e1]),
            lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
        };
        Ok(Self::Map { result, epoch, map })
    }

    /// Writes the response.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        match self {
            Self::ExternalAddress {
                result,
                epoch,
                addr,
            } => {
                let mut bytes = header(RESPONSE | EXTERNAL_ADDRESS, *result, *epoch);
                bytes.extend(addr.octets());
                bytes
            }
            Self::Map { result, epoch, map } => {
                let mut bytes = header(RESPONSE | opcode(map.protocol), *result, *epoch);
                bytes.extend(map.internal_port.to_be_bytes());
                bytes.extend(map.external_port.to_be_bytes());
                bytes.extend(map.lifetime.to_be_bytes());
                bytes
            }
            // RFC 6886 §3.5: this one's opcode is 0, not 128
            Self::UnsupportedVersion { epoch } => {
                header(EXTERNAL_ADDRESS, ResultCode::UnsupportedVersion, *epoch)
            }
        }
    }
}

/// Writes the answer to an opcode that nobody knows: the whole request, with the top bit of the
/// opcode and the result code set (RFC 6886 §3.5). A request that ends before the epoch's
/// field gets the epoch, which every packet carries (RFC 6886 §3.6).
#[must_use]
pub fn emit_unsupported_opcode(request: &[u8], epoch: u32) -> Vec<u8> {
    let (&[version, opcode], rest) = request.split_first_chunk().unwrap_or((&[0, 0], &[]));
    let mut bytes = header(
        RESPONSE | opcode,
        ResultCode::UnsupportedOpcode,
        match rest.get(2..6) {
            Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
            Some(_) | None => epoch,
        },
    );
    if let Some(first) = bytes.first_mut() {
        *first = version;
    }
    bytes.extend(rest.get(6..).unwrap_or_default());
    bytes
}

/// Result codes (RFC 6886 §3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResultCode {
    /// 0.
    Success,
    /// 1.
    UnsupportedVersion,
    /// 2: not authorised or refused.
    Refused,
    /// 3.
    NetworkFailure,
    /// 4.
    OutOfResources,
    /// 5.
    UnsupportedOpcode,
}

impl ResultCode {
    /// Every code, by number.
    pub const ALL: [Self; 6] = [
        Self::Success,
        Self::UnsupportedVersion,
        Self::Refused,
        Self::NetworkFailure,
        Self::OutOfResources,
        Self::UnsupportedOpcode,
    ];

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Success => 0,
            Self::UnsupportedVersion => 1,
            Self::Refused => 2,
            Self::NetworkFailure => 3,
            Self::OutOfResources => 4,
            Self::UnsupportedOpcode => 5,
        }
    }

    /// Returns the code of a number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// Returns the name used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::UnsupportedVersion => "unsupported_version",
            Self::Refused => "refused",
            Self::NetworkFailure => "network_failure",
            Self::OutOfResources => "out_of_resources",
            Self::UnsupportedOpcode => "unsupported_opcode",
        }
    }
}

impl crate::Code for ResultCode {
    const ALL: &'static [Self] = &Self::ALL;

    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
}

/// A datagram that cannot be read, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {} at octet {offset} cannot be read", field.as_str())]
pub struct Malformed {
    /// Which field.
    pub field: Field,
    /// Its place, or the end of the datagram.
    pub offset: usize,
}

impl Malformed {
    const fn new(field: Field, offset: usize) -> Self {
        Self { field, offset }
    }
}

/// A field of a NAT-PMP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The external address.
    Address,
    /// The first octets.
    Header,
    /// Ports and lifetime.
    Map,
    /// The operation.
    Opcode,
    /// Whether it is a response.
    ResponseBit,
    /// The result code.
    Result,
    /// The version.
    Version,
}

impl Field {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Header => "header",
            Self::Map => "mapping",
            Self::Opcode => "opcode",
            Self::ResponseBit => "response bit",
            Self::Result => "result code",
            Self::Version => "version",
        }
    }
}

fn header(opcode: u8, result: ResultCode, epoch: u32) -> Vec<u8> {
    let mut bytes = vec![VERSION, opcode];
    bytes.extend(result.number().to_be_bytes());
    bytes.extend(epoch.to_be_bytes());
    bytes
}

const fn opcode(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => MAP_TCP,
        Protocol::Udp => MAP_UDP,
    }
}

/// RFC 6886 §3.2 and §3.3.
const VERSION: u8 = 0;
const EXTERNAL_ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const MAP_TCP: u8 = 2;
const RESPONSE: u8 = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mapping_request_has_the_golden_bytes_of_the_rfc() {
        // RFC 6886 §3.3: map UDP 5004 as 5004 for two hours
        let bytes = [0, 1, 0, 0, 0x13, 0x8c, 0x13, 0x8c, 0, 0, 0x1c, 0x20];

        let request = Request::parse(&bytes).unwrap();

        let map = Map {
            protocol: Protocol::Udp,
            internal_port: 5004,
            external_port: 5004,
            lifetime: 7200,
        };
        assert_eq!(request, Request::Map(map));
        assert_eq!(request.emit(), bytes);
    }

    #[test]
    fn an_address_response_has_the_golden_bytes_of_the_rfc() {
        let response = Response::ExternalAddress {
            result: ResultCode::Success,
            epoch: 0x0102_0304,
            addr: Ipv4Addr::new(192, 0, 2, 7),
        };

        assert_eq!(response.emit(), [0, 128, 0, 0, 1, 2, 3, 4, 192, 0, 2, 7]);
    }

    #[test]
    fn an_unknown_opcode_is_copied_and_a_short_one_gets_the_epoch() {
        let long = [0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9];

        assert_eq!(
            emit_unsupported_opcode(&long, 77),
            [0, 137, 0, 5, 3, 4, 5, 6, 7, 8, 9]
        );
        assert_eq!(
            emit_unsupported_opcode(&[0, 9], 77),
            [0, 137, 0, 5, 0, 0, 0, 77]
        );
        assert_eq!(emit_unsupported_opcode(&[0, 9, 1, 1, 8], 77).len(), 8);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(request) = Request::parse(&bytes) {
                prop_assert_eq!(Request::parse(&request.emit()), Ok(request));
            }
            if let Ok(response) = Response::parse(&bytes) {
                prop_assert_eq!(Response::parse(&response.emit()), Ok(response));
            }
            prop_assert!(emit_unsupported_opcode(&bytes, 1).len() >= 8);
        }

        #[test]
        fn what_is_written_can_be_read(request in request(), response in response()) {
            prop_assert_eq!(Request::parse(&request.emit()), Ok(request));
            prop_assert_eq!(Response::parse(&response.emit()), Ok(response));
        }
    }

    fn map() -> impl Strategy<Value = Map> {
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
        (protocol, any::<u16>(), any::<u16>(), any::<u32>()).prop_map(
            |(protocol, internal_port, external_port, lifetime)| Map {
                protocol,
                internal_port,
                external_port,
                lifetime,
            },
        )
    }

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![Just(Request::ExternalAddress), map().prop_map(Request::Map)]
    }

    fn response() -> impl Strategy<Value = Response> {
        let result = prop::sample::select(ResultCode::ALL.to_vec());
        let addr = (result.clone(), any::<u32>(), any::<Ipv4Addr>());
        prop_oneof![
            addr.prop_map(|(result, epoch, addr)| Response::ExternalAddress {
                result,
                epoch,
                addr
            }),
            (result, any::<u32>(), map()).prop_map(|(result, epoch, map)| Response::Map {
                result,
                epoch,
                map
            }),
            any::<u32>().prop_map(|epoch| Response::UnsupportedVersion { epoch }),
        ]
    }
}
