//! Bytes and values: SSDP messages, HTTP messages, SOAP envelopes, events and the descriptions.

pub mod description;
pub mod gena;
pub mod http;
pub mod listing;
pub mod soap;
pub mod ssdp;
mod xml;

/// What cannot be parsed, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {field} at byte {offset}")]
pub struct Malformed {
    /// Which part.
    pub field: Field,
    /// How far into the message.
    pub offset: usize,
}

impl Malformed {
    const fn new(field: Field, offset: usize) -> Self {
        Self { field, offset }
    }
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// An XML attribute, or too many of them.
    Attribute,
    /// Where events are to go.
    Callback,
    /// A chunk of an HTTP body.
    Chunk,
    /// The length of an HTTP body.
    ContentLength,
    /// Elements inside elements beyond the limit.
    Depth,
    /// A document type declaration, which SOAP forbids.
    Doctype,
    /// An XML element where it does not belong.
    Element,
    /// Not UTF-8.
    Encoding,
    /// A reference to an unknown entity or character.
    Entity,
    /// A header line.
    Header,
    /// How long a searcher waits.
    MaxWait,
    /// The name of a subscription.
    Sid,
    /// The first line.
    StartLine,
    /// What is searched for.
    Target,
    /// Text where it does not belong, or a forbidden character.
    Text,
    /// The framing of an HTTP body.
    TransferEncoding,
    /// Not well-formed XML.
    Xml,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Attribute => "attribute",
            Self::Callback => "callback",
            Self::Chunk => "chunk",
            Self::ContentLength => "content length",
            Self::Depth => "depth",
            Self::Doctype => "document type",
            Self::Element => "element",
            Self::Encoding => "encoding",
            Self::Entity => "entity",
            Self::Header => "header",
            Self::MaxWait => "maximum wait",
            Self::Sid => "subscription name",
            Self::StartLine => "start line",
            Self::Target => "search target",
            Self::Text => "text",
            Self::TransferEncoding => "transfer encoding",
            Self::Xml => "XML",
        })
    }
}
