use proptest::prelude::*;

use super::*;

#[test]
fn head_is_parsed_when_it_is_complete() {
    let text = b"POST /x HTTP/1.1\r\nHost: a:1\r\nSOAPAction:  \"u#A\" \r\n\r\nbody";

    for end in 0..text.len() - 4 {
        assert_eq!(Head::parse(&text[..end]), Ok(None));
    }
    let (head, len) = Head::parse(text).unwrap().unwrap();
    assert_eq!((head.method, head.target.as_str()), (Method::Post, "/x"));
    assert_eq!(head.one("soapaction"), Some("\"u#A\""));
    assert_eq!(&text[len..], b"body");
}

#[test]
fn t_20_two_ways_to_frame_a_body_are_refused() {
    let framing = |headers: &str| {
        let text = format!("POST / HTTP/1.1\r\n{headers}\r\n");
        let (head, _) = Head::parse(text.as_bytes()).unwrap().unwrap();
        head.framing()
    };
    let refused = |headers: &str| framing(headers).unwrap_err().field;

    assert_eq!(framing(""), Ok(Framing::Length(0)));
    assert_eq!(
        framing("Content-Length: 7\r\nContent-Length: 7\r\n"),
        Ok(Framing::Length(7))
    );
    assert_eq!(
        framing("Transfer-Encoding: Chunked\r\n"),
        Ok(Framing::Chunked)
    );
    let both = "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(refused(both), Field::TransferEncoding);
    let other = "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n";
    assert_eq!(refused(other), Field::TransferEncoding);
    assert_eq!(
        refused("Transfer-Encoding: gzip, chunked\r\n"),
        Field::TransferEncoding
    );
    assert_eq!(
        refused("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
        Field::TransferEncoding
    );
    assert_eq!(
        refused("Content-Length: 7\r\nContent-Length: 8\r\n"),
        Field::ContentLength
    );
    assert_eq!(refused("Content-Length: +7\r\n"), Field::ContentLength);
    assert_eq!(refused("Content-Length: 7, 7\r\n"), Field::ContentLength);
}

#[test]
fn heads_that_are_none_are_refused() {
    let field = |text: &str| Head::parse(text.as_bytes()).unwrap_err().field;

    assert_eq!(field("GET  / HTTP/1.1\r\n\r\n"), Field::StartLine);
    for version in ["HTTP/2.0", "HTTP/1.", "HTTP/1.10", "HTTP/1.x", "http/1.1"] {
        let start = format!("GET / {version}\r\n\r\n");
        assert_eq!(field(&start), Field::StartLine, "{version}");
    }
    assert_eq!(field("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), Field::Header);
    assert_eq!(
        field("GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n"),
        Field::Header
    );
    assert_eq!(field("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n"), Field::Header);
    assert_eq!(field(&"x".repeat(MAX_HEAD + 1)), Field::Header);
    assert_eq!(
        field(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65))),
        Field::Header
    );
}

#[test]
fn rfc_9110_s5_5_names_of_control_points_may_be_in_any_encoding() {
    let text = b"GET / HTTP/1.1\r\nUser-Agent: Caf\xe9\r\nHost: a\r\n\r\n";

    let (head, len) = Head::parse(text).unwrap().unwrap();
    assert_eq!((head.one("host"), len), (Some("a"), text.len()));
    let target = Head::parse(b"GET /\xe9 HTTP/1.1\r\n\r\n");
    assert_eq!(target.unwrap_err().field, Field::StartLine);
}

#[test]
fn connection_persists_as_the_version_says() {
    let keeps = |text: &str| {
        Head::parse(text.as_bytes())
            .unwrap()
            .unwrap()
            .0
            .keeps_alive()
    };

    assert!(keeps("GET / HTTP/1.1\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.1\r\nConnection: TE, Close\r\n\r\n"));
    assert!(keeps("GET / HTTP/1.2\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
    assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}

#[test]
fn chunks_are_joined_however_they_arrive() {
    let text = b"4\r\nWiki\r\n6;x=y\r\npedia \r\n0\r\nTrailer: a\r\n\r\nnext";

    for step in 1..text.len() {
        let mut chunks = Chunks::default();
        let mut buf = Vec::new();
        let mut body = None;
        for part in text.chunks(step) {
            buf.extend_from_slice(part);
            if body.is_none() {
                body = chunks.take(&mut buf, 100).unwrap();
            }
        }
        assert_eq!(
            body.as_deref(),
            Some(b"Wikipedia ".as_slice()),
            "in steps of {step}"
        );
        assert_eq!(buf, b"next");
    }
}

#[test]
fn malformed_chunks_are_refused() {
    let refused = |text: &[u8]| Chunks::default().take(&mut text.to_vec(), 100).is_err();

    assert!(refused(b"x\r\n"));
    assert!(refused(b"\r\n"));
    assert!(refused(b"fffffffff\r\n"));
    assert!(refused(b"1\r\nab\r\n"));
    assert!(refused(&[b'0'; MAX_LINE + 1]));
    assert!(refused(
        format!("0\r\n{}", "a: b\r\n".repeat(65)).as_bytes()
    ));
}

#[test]
fn answer_is_emitted_with_its_length() {
    let response = Response::refusal(Status::NotFound, "no");

    let text = String::from_utf8(response.emit(784_111_777, false, false)).unwrap();

    assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert!(text.contains("\r\nContent-Length: 3\r\nConnection: close\r\n"));
    assert!(text.ends_with("\r\n\r\nno\n"));
    assert!(response.emit(0, true, true).ends_with(b"\r\n\r\n"));
}

#[test]
fn rfc_9110_s5_6_7_dates_are_those_of_the_calendar() {
    for (at, expected) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        assert_eq!(date(at), expected, "{at}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(Some((head, len))) = Head::parse(&bytes) {
            prop_assert!(len <= bytes.len());
            let _framing = head.framing();
        }
        let mut buf = bytes;
        let _body = Chunks::default().take(&mut buf, 64);
    }

    #[test]
    fn arbitrary_header_lines_never_panic(lines in "(\\PC{0,12}[:\r\n]{0,3}){0,20}") {
        let text = format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n");
        if let Ok(Some((head, _))) = Head::parse(text.as_bytes()) {
            let _framing = head.framing();
            let _keeps = head.keeps_alive();
        }
    }
}
