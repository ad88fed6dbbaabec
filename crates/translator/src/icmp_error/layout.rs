//! The quoted packet and the extensions behind it (RFC 4884).

/// What stands behind the header of an ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Body<'a> {
    pub(super) quote: &'a [u8],
    /// Empty when there are none.
    pub(super) extensions: &'a [u8],
}

impl<'a> Body<'a> {
    /// Parts a body whose length attribute says `quoted` bytes. One that says nothing possible is
    /// what the field held before it was a length.
    pub(super) fn parse(body: &'a [u8], quoted: usize) -> Self {
        let parted = body.split_at_checked(quoted);
        let (quote, extensions) = parted
            .filter(|_| quoted >= MIN_QUOTE)
            .unwrap_or((body, &[]));
        Self { quote, extensions }
    }
}

/// How the body of a translated error is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// How much is quoted.
    pub(super) quoted: usize,
    /// How many zeros follow.
    pub(super) padding: usize,
    /// The length attribute; zero when no extensions follow.
    pub(super) length: u8,
}

impl Layout {
    /// Lays out a quote of at most `quote` bytes and extensions in `room` bytes; `unit` is that of
    /// the length attribute. Extensions that do not fit, or may not be there, are left away.
    // DEVIATION RFC 7915 §4.2: they are not truncated, because cut ones would be of no use: they
    // have a checksum of their own.
    pub(super) fn new(quote: usize, extensions: usize, room: usize, unit: Option<usize>) -> Self {
        let with_extensions = unit
            .filter(|_| extensions > 0)
            .and_then(|unit| Self::with_extensions(quote, room.checked_sub(extensions)?, unit));
        with_extensions.unwrap_or(Self {
            quoted: quote.min(room),
            padding: 0,
            length: 0,
        })
    }

    fn with_extensions(quote: usize, room: usize, unit: usize) -> Option<Self> {
        let room = room - room % unit;
        if room < MIN_QUOTE {
            return None;
        }
        let quoted = quote.min(room);
        let len = quoted.max(MIN_QUOTE).next_multiple_of(unit);
        Some(Self {
            quoted,
            padding: len - quoted,
            length: u8::try_from(len / unit).ok()?,
        })
    }
}

/// RFC 4884 §3: quotes before extensions are at least that long, zeros included.
const MIN_QUOTE: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn layout_fits_its_room_and_its_length_names_its_end(
            quote in 0..70_000_usize,
            extensions in 0..2000_usize,
            wide: bool,
        ) {
            let (room, unit) = if wide { (1232, 8) } else { (548, 4) };

            let layout = Layout::new(quote, extensions, room, Some(unit));

            let end = layout.quoted + layout.padding;
            prop_assert!(layout.quoted <= quote);
            if layout.length == 0 {
                prop_assert!(extensions == 0 || extensions + MIN_QUOTE > room);
                prop_assert_eq!(end, quote.min(room));
            } else {
                prop_assert_eq!(end, usize::from(layout.length) * unit);
                prop_assert!(end >= MIN_QUOTE);
                prop_assert!(end + extensions <= room);
                prop_assert!(layout.quoted == quote || room - end - extensions < unit);
            }
        }
    }

    #[test]
    fn length_that_cannot_be_is_none() {
        let body = [7; 200];
        for (said, quoted) in [(0, 200), (124, 200), (128, 128), (200, 200), (204, 200)] {
            assert_eq!(Body::parse(&body, said).quote.len(), quoted, "{said}");
        }
    }
}
