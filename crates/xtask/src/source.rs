//! A Rust file taken apart into code, comments and literals, line for line.
//!
//! It is no parser: it knows just enough of the language never to mistake a word in a comment or
//! in a string for code. That keeps the rules of `tidy` short, and the build free of a compiler's
//! front end.

use std::ops::Range;

/// A Rust file in three layers of the same shape: what is not of a layer is blank in it.
#[derive(Debug)]
pub struct Source {
    /// Relative to the repository's root.
    pub path: String,
    pub code: String,
    pub comments: String,
    pub strings: String,
    test_lines: Vec<Range<usize>>,
}

/// A word of the code, with what stands on either side of it.
#[derive(Debug, Clone, Copy)]
pub struct Word<'a> {
    pub text: &'a str,
    /// Counted from 1.
    pub line: usize,
    pub before: &'a str,
    pub after: &'a str,
}

/// A function with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Counted from 1.
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let layers = Layers::of(text);
        let mut source = Self {
            path: path.to_owned(),
            code: layers.code,
            comments: layers.comments,
            strings: layers.strings,
            test_lines: Vec::new(),
        };
        source.test_lines = if is_test_file(path) {
            std::iter::once(1..usize::MAX).collect()
        } else {
            test_items(&source.code)
        };
        source
    }

    /// Whether line `line` (from 1) is compiled for tests only.
    pub fn is_test(&self, line: usize) -> bool {
        self.test_lines.iter().any(|range| range.contains(&line))
    }

    /// How many lines there are outside of tests.
    pub fn shipped_lines(&self) -> usize {
        (1..=self.code.lines().count())
            .filter(|line| !self.is_test(*line))
            .count()
    }

    /// The words of the code, tests among them.
    pub fn words(&self) -> impl Iterator<Item = Word<'_>> {
        words(&self.code)
    }

    /// The lines of a layer outside of tests, each with its number from 1.
    pub fn shipped<'a>(&'a self, layer: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        numbered(layer).filter(|(line, _)| !self.is_test(*line))
    }

    /// The functions outside of tests.
    pub fn functions(&self) -> Vec<Function> {
        self.words()
            .filter(|word| word.text == "fn" && !self.is_test(word.line))
            .filter(|word| word.after.trim_start().starts_with(is_word))
            .filter_map(|word| {
                let length = item_length(word.after)?;
                let item = word.after.get(..length)?;
                item.ends_with('}').then(|| Function {
                    line: word.line,
                    lines: item.matches('\n').count() + 1,
                })
            })
            .collect()
    }
}

/// Lines with their numbers from 1.
pub fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

/// Whether a file holds nothing but tests.
pub fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs")
        || path
            .split('/')
            .any(|folder| matches!(folder, "tests" | "benches" | "examples"))
}

/// The words of code whose comments and strings are blank.
pub fn words(code: &str) -> impl Iterator<Item = Word<'_>> {
    let mut line = 1;
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = code.get(at..)?;
        let start = at + rest.find(is_word)?;
        let length = code
            .get(start..)?
            .find(|c| !is_word(c))
            .unwrap_or(code.len() - start);
        line += code.get(at..start)?.matches('\n').count();
        at = start + length;
        Some(Word {
            text: code.get(start..at)?,
            line,
            before: code.get(..start)?,
            after: code.get(at..)?,
        })
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How long the item at the start of `code` is: up to its closing brace, or its semicolon.
fn item_length(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut in_body = false;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            '{' => {
                in_body |= depth == 0;
                depth += 1;
            }
            ')' | ']' | '}' => {
                depth = depth.checked_sub(1)?;
                if c == '}' && depth == 0 && in_body {
                    return Some(at + 1);
                }
            }
            ';' if depth == 0 => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The lines of the items that carry `#[cfg(test)]`.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some((attribute, at)) = TEST_ATTRIBUTES
        .iter()
        .filter_map(|attribute| Some((attribute, rest.find(attribute)?)))
        .min_by_key(|(_, at)| *at)
    {
        let (before, item) = rest.split_at(at);
        line += before.matches('\n').count();
        let (_, body) = item.split_at(attribute.len());
        let length = attribute.len() + item_length(body).unwrap_or(body.len());
        let (item, after) = item.split_at(length);
        let lines = item.matches('\n').count();
        items.push(line..line + lines + 1);
        line += lines;
        rest = after;
    }
    items
}

struct Layers {
    code: String,
    comments: String,
    strings: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Code,
    Comment,
    Text,
}

impl Layers {
    fn of(text: &str) -> Self {
        let mut scanner = Scanner {
            chars: text.chars().collect(),
            at: 0,
            layers: Self {
                code: String::new(),
                comments: String::new(),
                strings: String::new(),
            },
        };
        while scanner.step() {}
        scanner.layers
    }

    fn push(&mut self, c: char, to: Layer) {
        for (layer, out) in [
            (Layer::Code, &mut self.code),
            (Layer::Comment, &mut self.comments),
            (Layer::Text, &mut self.strings),
        ] {
            out.push(if c == '\n' || layer == to { c } else { ' ' });
        }
    }
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    layers: Layers,
}

impl Scanner {
    /// Takes the next comment, literal or character; false at the end.
    fn step(&mut self) -> bool {
        let Some(c) = self.peek(0) else {
            return false;
        };
        match (c, self.peek(1)) {
            ('/', Some('/')) => {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.take(1, Layer::Comment);
                }
            }
            ('/', Some('*')) => self.block_comment(),
            ('"', _) => self.string(),
            ('\'', next) => self.quote(next),
            _ if is_word(c) => self.word(),
            _ => self.take(1, Layer::Code),
        }
        true
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth = depth.saturating_sub(1),
                _ => {
                    self.take(1, Layer::Comment);
                    continue;
                }
            }
            self.take(2, Layer::Comment);
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.take(1, Layer::Code);
        while let Some(c) = self.peek(0) {
            match c {
                '"' => return self.take(1, Layer::Code),
                '\\' => self.take(2, Layer::Text),
                _ => self.take(1, Layer::Text),
            }
        }
    }

    fn raw_string(&mut self, hashes: usize) {
        self.take(hashes + 1, Layer::Code);
        while let Some(c) = self.peek(0) {
            if c == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                return self.take(hashes + 1, Layer::Code);
            }
            self.take(1, Layer::Text);
        }
    }

    /// A character literal, or the start of a lifetime.
    fn quote(&mut self, next: Option<char>) {
        self.take(1, Layer::Code);
        if next == Some('\\') {
            self.take(2, Layer::Text);
            while self.peek(0).is_some_and(|c| c != '\'') {
                self.take(1, Layer::Text);
            }
            self.take(1, Layer::Code);
        } else if self.peek(1) == Some('\'') {
            self.take(1, Layer::Text);
            self.take(1, Layer::Code);
        }
    }

    /// A word, which may be the prefix of a literal.
    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(is_word) {
            self.take(1, Layer::Code);
        }
        let word: String = self
            .chars
            .iter()
            .skip(start)
            .take(self.at - start)
            .collect();
        let hashes = (0..)
            .take_while(|ahead| self.peek(*ahead) == Some('#'))
            .count();
        if matches!(word.as_str(), "r" | "br" | "cr") && self.peek(hashes) == Some('"') {
            self.raw_string(hashes);
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn take(&mut self, count: usize, to: Layer) {
        for _ in 0..count {
            if let Some(c) = self.peek(0) {
                self.layers.push(c, to);
                self.at += 1;
            }
        }
    }
}

const TEST_ATTRIBUTES: &[&str] = &["#[cfg(test)]", "#[cfg(all(test"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        let source = Source::new(
            "a.rs",
            "let a = \"// no \\\" comment\"; // unsafe\n/* a /* b */ unsafe */ let b = 'c';\n",
        );

        assert!(!source.code.contains("unsafe"));
        assert!(!source.code.contains("comment"));
        assert!(source.code.contains("let b = ' ';"));
        assert!(source.strings.contains("// no \\\" comment"));
        assert_eq!(source.comments.matches("unsafe").count(), 2);
        assert!(!source.comments.contains("no"));
    }

    #[test]
    fn raw_strings_lifetimes_and_characters_are_told_apart() {
        let source = Source::new(
            "a.rs",
            "fn a<'a>(b: &'a str) -> char { let r = r#\"x\" unsafe\"#; '\"' } fn c() { '\\'' }",
        );

        assert!(!source.code.contains("unsafe"));
        assert!(source.code.contains("fn c()"));
        assert!(source.code.contains("&'a str"));
    }

    #[test]
    fn every_layer_has_the_lines_of_the_file() {
        let text = "a\n\"b\nc\" // d\n/* e\nf */ g\n";

        let source = Source::new("a.rs", text);

        for layer in [&source.code, &source.comments, &source.strings] {
            assert_eq!(layer.lines().count(), 5);
        }
    }

    #[test]
    fn test_items_are_known_by_line() {
        let source = Source::new(
            "a.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n\
             #[cfg(test)]\nmod more;\nfn d() {}\n",
        );

        let tests: Vec<_> = (1..=9).filter(|line| source.is_test(*line)).collect();
        assert_eq!(tests, [2, 3, 4, 5, 7, 8]);
        assert_eq!(source.shipped_lines(), 3);
    }

    #[test]
    fn files_of_tests_ship_nothing() {
        for path in [
            "crates/a/src/server/tests.rs",
            "tests/e2e/main.rs",
            "crates/a/tests/b.rs",
        ] {
            assert_eq!(
                Source::new(path, "fn a() {}\n").shipped_lines(),
                0,
                "{path}"
            );
        }
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let source = Source::new(
            "a.rs",
            "trait A { fn no_body(a: [u8; 4]); }\nfn b(c: fn(u8)) -> u8\nwhere\n{\n    1\n}\n",
        );

        assert_eq!(source.functions(), [Function { line: 2, lines: 5 }]);
    }
}
