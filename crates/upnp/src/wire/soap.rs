//! SOAP 1.1 envelopes, as UPnP uses them (UDA 1.1 §3.1).

use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;

use super::xml::{Document, is_char};
use super::{Field, Malformed};
use crate::ErrorCode;

/// What a control point asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The service type: the namespace of the action's element.
    pub service: String,
    /// The action's name.
    pub action: String,
    /// Its arguments, in the order given.
    pub arguments: Vec<(String, String)>,
}

/// Parses the body of a request.
///
/// # Errors
/// When it is no envelope with one action, or goes beyond [`MAX_DEPTH`], [`MAX_ATTRIBUTES`] or
/// [`MAX_ARGUMENTS`], or declares a document type or is not UTF-8.
pub fn parse(body: &[u8]) -> Result<Call, Malformed> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Malformed::new(Field::Encoding, error.valid_up_to()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = NsReader::from_str(text);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    // miniupnpc sends descriptions as they are
    config.allow_dangling_amp = true;
    let mut walk = Walk::default();
    loop {
        let offset = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let at = |field| Malformed::new(field, offset);
        let (namespace, event) = reader.read_resolved_event().map_err(|_| at(Field::Xml))?;
        match event {
            Event::Start(start) => walk.start(namespace, &start).map_err(at)?,
            Event::End(_) => walk.end(),
            Event::Empty(_) => return Err(at(Field::Xml)),
            Event::Text(text) => walk.text(&text.xml10_content()).map_err(at)?,
            Event::CData(text) => walk.text(&text.xml10_content()).map_err(at)?,
            Event::GeneralRef(reference) => {
                let c = match reference.resolve_char_ref() {
                    Ok(Some(c)) => Some(c),
                    Ok(None) => entity(&reference.xml10_content()),
                    Err(_) => None,
                };
                let c = c.ok_or(at(Field::Entity))?;
                walk.text(c.encode_utf8(&mut [0; 4])).map_err(at)?;
            }
            Event::Decl(declaration) => match declaration.encoding() {
                None => {}
                Some(Ok(name)) if is_read_as_utf8(&name, text) => {}
                Some(_) => return Err(at(Field::Encoding)),
            },
            Event::DocType(_) => return Err(at(Field::Doctype)),
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => return walk.finish().ok_or(at(Field::Element)),
        }
    }
}

/// Where in the envelope the reader stands.
#[derive(Debug, Default)]
struct Walk {
    depth: usize,
    /// The depth of an element whose content is of no interest.
    skipped: Option<usize>,
    seen: Seen,
    call: Call,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    #[default]
    Nothing,
    Envelope,
    Body,
    Action,
}

impl Walk {
    fn start(&mut self, namespace: ResolveResult<'_>, start: &BytesStart<'_>) -> Result<(), Field> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err(Field::Depth);
        }
        for (count, attribute) in start.attributes().enumerate() {
            if count >= MAX_ATTRIBUTES || attribute.is_err() {
                return Err(Field::Attribute);
            }
        }
        if self.skipped.is_some() {
            return Ok(());
        }
        let namespace = match namespace {
            ResolveResult::Bound(namespace) => namespace.0,
            ResolveResult::Unbound => "",
            ResolveResult::Unknown(_) => return Err(Field::Element),
        };
        let local = start.local_name();
        let local = local.as_ref();
        match (self.depth, self.seen) {
            (1, Seen::Nothing) if namespace == ENVELOPE && local == "Envelope" => {
                self.seen = Seen::Envelope;
            }
            (2, Seen::Envelope) if namespace == ENVELOPE && local == "Body" => {
                self.seen = Seen::Body;
            }
            // what a SOAP header says is not for us
            (2, Seen::Envelope | Seen::Action) => self.skipped = Some(self.depth),
            (3, Seen::Body) => {
                self.seen = Seen::Action;
                namespace.clone_into(&mut self.call.service);
                local.clone_into(&mut self.call.action);
            }
            (4, Seen::Action) if self.call.arguments.len() < MAX_ARGUMENTS => {
                self.call.arguments.push((local.to_owned(), String::new()));
            }
            _ => return Err(Field::Element),
        }
        Ok(())
    }

    fn end(&mut self) {
        if self.skipped == Some(self.depth) {
            self.skipped = None;
        }
        self.depth = self.depth.saturating_sub(1);
    }

    fn text(&mut self, text: &str) -> Result<(), Field> {
        if self.skipped.is_some() {
            return Ok(());
        }
        if !text.chars().all(is_char) {
            return Err(Field::Text);
        }
        match self.call.arguments.last_mut() {
            Some((_, value)) if self.depth == 4 => value.push_str(text),
            Some(_) | None if text.trim().is_empty() => {}
            Some(_) | None => return Err(Field::Text),
        }
        Ok(())
    }

    fn finish(self) -> Option<Call> {
        (self.depth == 0 && self.seen == Seen::Action).then_some(self.call)
    }
}

/// Emits the answer to an action.
#[must_use]
pub fn response(service: &str, action: &str, outputs: &[(&str, String)]) -> Vec<u8> {
    let mut document = envelope();
    document.start(&format!("u:{action}Response"), &[("xmlns:u", service)]);
    for (name, value) in outputs {
        match *name {
            // miniupnpc reads the list as it stands, so no reference may be in its way
            "NewPortListing" => document.fragment_leaf(name, value),
            _ => document.leaf(name, value),
        }
    }
    document.finish().into_bytes()
}

/// Emits an error (UDA 1.1 §3.2.2).
#[must_use]
pub fn fault(error: ErrorCode) -> Vec<u8> {
    let mut document = envelope();
    document.start("s:Fault", &[]);
    document.leaf("faultcode", "s:Client");
    document.leaf("faultstring", "UPnPError");
    document.start("detail", &[]);
    document.start(
        "UPnPError",
        &[("xmlns", "urn:schemas-upnp-org:control-1-0")],
    );
    document.leaf("errorCode", &error.code().to_string());
    document.leaf("errorDescription", error.description());
    document.finish().into_bytes()
}

fn envelope() -> Document {
    let mut document = Document::new();
    document.start(
        "s:Envelope",
        &[("xmlns:s", ENVELOPE), ("s:encodingStyle", ENCODING)],
    );
    document.start("s:Body", &[]);
    document
}

/// Tells whether a text in an encoding is the same in UTF-8: what is ASCII is, in all that extend
/// it, and old control points say so of texts that hold nothing else.
fn is_read_as_utf8(encoding: &str, text: &str) -> bool {
    let encoding = encoding.to_ascii_lowercase();
    let extends_ascii = ["iso-8859-", "windows-125", "us-ascii"];
    matches!(encoding.as_str(), "utf-8" | "utf8")
        || (text.is_ascii() && extends_ascii.iter().any(|it| encoding.starts_with(it)))
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "apos" => Some('\''),
        "gt" => Some('>'),
        "lt" => Some('<'),
        "quot" => Some('"'),
        _ => None,
    }
}

/// An envelope has four levels; a SOAP header may have some more.
pub const MAX_DEPTH: usize = 16;

/// An element of an envelope has at most two namespaces and an encoding style.
pub const MAX_ATTRIBUTES: usize = 32;

/// The largest action has eight arguments.
pub const MAX_ARGUMENTS: usize = 32;

const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const ENCODING: &str = "http://schemas.xmlsoap.org/soap/encoding/";

#[cfg(test)]
mod tests;
