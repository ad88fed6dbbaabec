//! The figures by which the house is compared with others: code without its tests.

use super::house::room;
use crate::source::{Source, words};

/// Prints one row for what ships, and one for the tools beside it.
pub fn table(sources: &[Source]) -> String {
    let mut out = String::from(HEAD);
    for (title, is_tool) in [("Portico", false), ("lab, xtask", true)] {
        let belongs = |room: &str| TOOLS.contains(&room) == is_tool;
        let figures = Figures::of(
            sources
                .iter()
                .filter(|source| room(&source.path).is_some_and(belongs)),
        );
        out.push_str(&format!("| {title} | {figures} |\n"));
    }
    out
}

#[derive(Debug, Default)]
struct Figures {
    lines: usize,
    files: Vec<usize>,
    functions: Vec<usize>,
    unsafe_words: usize,
    unwraps: usize,
    citations: usize,
    clock_reads: usize,
}

impl Figures {
    fn of<'a>(sources: impl Iterator<Item = &'a Source>) -> Self {
        let mut figures = Self::default();
        for source in sources {
            figures.add(source);
        }
        figures.files.sort_unstable();
        figures.functions.sort_unstable();
        figures
    }

    fn add(&mut self, source: &Source) {
        let lines = source.shipped_lines();
        if lines == 0 {
            return;
        }
        self.lines += lines;
        self.files.push(lines);
        self.functions
            .extend(source.functions().iter().map(|function| function.lines));
        for word in source.words().filter(|word| !source.is_test(word.line)) {
            match word.text {
                "unsafe" => self.unsafe_words += 1,
                "unwrap" | "expect" if word.before.ends_with('.') => self.unwraps += 1,
                "now" if is_std_clock(word.before) && room(&source.path) != Some("net") => {
                    self.clock_reads += 1;
                }
                _ => {}
            }
        }
        for (_, comment) in source.shipped(&source.comments) {
            self.citations += words(comment)
                .filter(|word| word.text == "RFC")
                .filter(|word| {
                    word.after
                        .trim_start()
                        .starts_with(|c: char| c.is_ascii_digit())
                })
                .count();
        }
    }

    /// In tenths per thousand lines.
    fn per_thousand(&self, count: usize) -> String {
        let tenths = (count * 10_000).checked_div(self.lines).unwrap_or_default();
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let long = self.functions.iter().filter(|lines| **lines > LONG).count();
        write!(
            f,
            "{}.{} | {} | {} | {long} | {} | {} | {} | {}",
            self.lines / 1000,
            self.lines % 1000 / 100,
            spread(&self.files),
            spread(&self.functions),
            self.unsafe_words,
            self.per_thousand(self.unwraps),
            self.per_thousand(self.citations),
            self.clock_reads,
        )
    }
}

/// Median, ninth decile and maximum of sorted values.
fn spread(sorted: &[usize]) -> String {
    let at = |tenths: usize| {
        sorted
            .get(sorted.len() * tenths / 10)
            .copied()
            .unwrap_or_default()
    };
    let max = sorted.last().copied().unwrap_or_default();
    format!("{} / {} / {max}", at(5), at(9))
}

fn is_std_clock(before: &str) -> bool {
    let Some(path) = before.strip_suffix("::") else {
        return false;
    };
    path.ends_with("Instant") || path.ends_with("SystemTime")
}

const HEAD: &str = "\
| without tests | kLOC | file median / p90 / max | fn median / p90 / max | fns > 70 lines \
| unsafe | unwrap, expect per kLOC | RFC refs per kLOC | clock reads outside net |
|---|---|---|---|---|---|---|---|---|
";

const TOOLS: &[&str] = &["lab", "xtask"];

const LONG: usize = 70;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_count_code_and_leave_tests_out() {
        let long = "    b();\n".repeat(LONG);
        let text = format!(
            "/// RFC 6887 §8.2, RFC 6886.\nfn a() {{\n{long}    c().unwrap(); // .unwrap()\n\
             Instant::now();\n}}\n#[cfg(test)]\nmod tests {{ fn t() {{ c().expect(\"\"); }} }}\n",
        );

        let figures = Figures::of([Source::new("crates/a/src/lib.rs", &text)].iter());

        assert_eq!(figures.lines, 75);
        assert_eq!(figures.functions, [74]);
        assert_eq!(
            (figures.unwraps, figures.citations, figures.clock_reads),
            (1, 2, 1)
        );
        let row = figures.to_string();
        assert_eq!(
            row,
            "0.0 | 75 / 75 / 75 | 74 / 74 / 74 | 1 | 0 | 13.3 | 26.6 | 1"
        );
    }

    #[test]
    fn tools_have_a_row_of_their_own() {
        let sources = [
            Source::new("crates/lab/src/lib.rs", "fn a() {}\n"),
            Source::new("crates/pcp/src/lib.rs", "fn a() {}\nfn b() {}\n"),
            Source::new("tests/e2e/main.rs", "fn c() {}\n"),
        ];

        let table = table(&sources);

        assert!(table.contains("| Portico | 0.0 | 2 / 2 / 2 |"), "{table}");
        assert!(
            table.contains("| lab, xtask | 0.0 | 1 / 1 / 1 |"),
            "{table}"
        );
    }

    #[test]
    fn no_code_is_no_division_by_zero() {
        assert_eq!(Figures::default().per_thousand(1), "0.0");
    }
}
