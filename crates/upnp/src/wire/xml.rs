//! Writes XML documents.

use quick_xml::escape::escape;

/// A document that grows; what is opened is closed in the right order.
#[derive(Debug)]
pub(super) struct Document {
    text: String,
    open: Vec<String>,
}

impl Document {
    pub(super) fn new() -> Self {
        Self {
            text: DECLARATION.to_owned(),
            open: Vec::new(),
        }
    }

    /// A part of a document, without a declaration.
    pub(super) const fn fragment() -> Self {
        Self {
            text: String::new(),
            open: Vec::new(),
        }
    }

    pub(super) fn start(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.text.push('<');
        self.text.push_str(name);
        for (name, value) in attributes {
            self.text.push(' ');
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.push_escaped(value);
            self.text.push('"');
        }
        self.text.push('>');
        self.open.push(name.to_owned());
    }

    pub(super) fn end(&mut self) {
        if let Some(name) = self.open.pop() {
            self.text.push_str("</");
            self.text.push_str(&name);
            self.text.push('>');
        }
    }

    pub(super) fn leaf(&mut self, name: &str, text: &str) {
        self.start(name, &[]);
        self.push_escaped(text);
        self.end();
    }

    /// Like [`Self::leaf`], for a text that is XML itself.
    pub(super) fn fragment_leaf(&mut self, name: &str, fragment: &str) {
        self.start(name, &[]);
        self.text.push_str("<![CDATA[");
        self.text
            .push_str(&fragment.replace("]]>", "]]]]><![CDATA[>"));
        self.text.push_str("]]>");
        self.end();
    }

    pub(super) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.end();
        }
        self.text
    }

    fn push_escaped(&mut self, text: &str) {
        let clean: String = text
            .chars()
            .map(|c| {
                if is_char(c) {
                    c
                } else {
                    char::REPLACEMENT_CHARACTER
                }
            })
            .collect();
        // XML 1.0 §2.11: a reader takes a bare carriage return for a line feed
        self.text.push_str(&escape(&clean).replace('\r', "&#13;"));
    }
}

/// XML 1.0 §2.2: what may stand in a document.
pub(super) const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

const DECLARATION: &str = "<?xml version=\"1.0\"?>\n";
