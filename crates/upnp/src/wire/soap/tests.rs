use proptest::prelude::*;

use super::*;

#[test]
fn call_of_a_real_control_point_is_parsed() {
    // as miniupnpc writes it
    let body = "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
        s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
        <u:DeletePortMapping xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\">\
        <NewRemoteHost></NewRemoteHost><NewExternalPort>8080</NewExternalPort><NewProtocol>TCP</NewProtocol>\
        </u:DeletePortMapping></s:Body></s:Envelope>\r\n";

    let call = parse(body.as_bytes()).unwrap();

    assert_eq!(
        call.service,
        "urn:schemas-upnp-org:service:WANIPConnection:1"
    );
    assert_eq!(call.action, "DeletePortMapping");
    let expected = [
        ("NewRemoteHost", ""),
        ("NewExternalPort", "8080"),
        ("NewProtocol", "TCP"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(call.arguments, expected);
}

#[test]
fn entities_references_and_cdata_are_text() {
    let call = parse(&wrap("<A>&lt;b&gt; &amp;&#65;&#x42;<![CDATA[<c>]]></A>")).unwrap();

    assert_eq!(call.arguments, [("A".to_owned(), "<b> &AB<c>".to_owned())]);
}

#[test]
fn ampersands_of_careless_control_points_are_text() {
    let value = |text: &str| {
        parse(&wrap(&format!("<A>{text}</A>"))).unwrap().arguments[0]
            .1
            .clone()
    };

    assert_eq!(value("heat & pump"), "heat & pump");
    assert_eq!(value("a&b &amp; c&"), "a&b & c&");
}

#[test]
fn empty_elements_comments_and_headers_are_understood() {
    let body = "\u{feff}<?xml version='1.0' encoding='UTF-8'?><!-- hi --><Envelope xmlns='http://schemas.xmlsoap.org/soap/envelope/'>\
        <Header><x:a xmlns:x='x'>text<x:b/></x:a></Header><Body><u:Do xmlns:u='urn:s'><A/></u:Do></Body></Envelope>";

    let call = parse(body.as_bytes()).unwrap();

    assert_eq!(
        (call.service.as_str(), call.action.as_str()),
        ("urn:s", "Do")
    );
    assert_eq!(call.arguments, [("A".to_owned(), String::new())]);
}

#[test]
fn encodings_that_a_text_in_ascii_shares_with_utf_8_are_understood() {
    let body = |encoding: &str, value: &str| {
        let body = String::from_utf8(wrap(&format!("<A>{value}</A>"))).unwrap();
        format!("<?xml version=\"1.0\" encoding=\"{encoding}\"?>{body}")
    };
    let field = |encoding: &str, value: &str| {
        let read = parse(body(encoding, value).as_bytes());
        read.err().map(|malformed| malformed.field)
    };

    for encoding in [
        "utf-8",
        "UTF8",
        "ISO-8859-1",
        "iso-8859-15",
        "Windows-1252",
        "us-ascii",
    ] {
        assert_eq!(field(encoding, "camera"), None, "{encoding}");
    }
    assert_eq!(field("UTF-8", "caméra"), None);
    for encoding in ["ISO-8859-1", "windows-1252", "us-ascii"] {
        assert_eq!(
            field(encoding, "caméra"),
            Some(Field::Encoding),
            "{encoding}"
        );
    }
    for encoding in ["UTF-16", "UCS-4", "EBCDIC-CP-US", "x"] {
        assert_eq!(
            field(encoding, "camera"),
            Some(Field::Encoding),
            "{encoding}"
        );
    }
}

#[test]
fn t_19_entities_of_a_document_type_are_refused() {
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>";
    let external = "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>";

    assert_eq!(parse(bomb.as_bytes()).unwrap_err().field, Field::Doctype);
    assert_eq!(
        parse(external.as_bytes()).unwrap_err().field,
        Field::Doctype
    );
    assert_eq!(parse(&wrap("<A>&b;</A>")).unwrap_err().field, Field::Entity);
    assert_eq!(
        parse(&wrap("<A>&#0;</A>")).unwrap_err().field,
        Field::Entity
    );
    assert_eq!(parse(&wrap("<A>&#7;</A>")).unwrap_err().field, Field::Text);
}

#[test]
fn t_19_deep_nesting_and_many_attributes_are_refused() {
    let deep = |levels: usize| {
        let inner = "<x>".repeat(levels) + &"</x>".repeat(levels);
        let body = format!(
            "<s:Envelope xmlns:s='{ENVELOPE}'><s:Header>{inner}</s:Header><s:Body><u:D xmlns:u='u'/></s:Body></s:Envelope>"
        );
        parse(body.as_bytes())
    };
    let attributes = |count: usize| {
        let list: String = (0..count).map(|n| format!(" a{n}='1'")).collect();
        parse(&wrap(&format!("<A{list}/>")))
    };

    assert!(deep(MAX_DEPTH - 2).is_ok());
    assert_eq!(deep(MAX_DEPTH - 1).unwrap_err().field, Field::Depth);
    assert_eq!(deep(3000).unwrap_err().field, Field::Depth);
    assert!(attributes(MAX_ATTRIBUTES).is_ok());
    assert_eq!(
        attributes(MAX_ATTRIBUTES + 1).unwrap_err().field,
        Field::Attribute
    );
}

#[test]
fn what_is_no_envelope_says_why() {
    let field = |body: &str| parse(body.as_bytes()).unwrap_err().field;

    assert_eq!(field(""), Field::Element);
    assert_eq!(field("hello"), Field::Text);
    assert_eq!(field("<a/>"), Field::Element);
    assert_eq!(
        field(&format!("<s:Envelope xmlns:s='{ENVELOPE}'>")),
        Field::Element
    );
    assert_eq!(
        field(&format!(
            "<s:Envelope xmlns:s='{ENVELOPE}'><s:Body/></s:Envelope>"
        )),
        Field::Element
    );
    assert_eq!(field("<s:Envelope/>"), Field::Element);
    assert_eq!(
        field("<?xml version='1.0' encoding='UTF-16'?><a/>"),
        Field::Encoding
    );
    assert_eq!(
        parse(&wrap("<A><B/></A>")).unwrap_err().field,
        Field::Element
    );
    assert_eq!(parse(&wrap("stray")).unwrap_err().field, Field::Text);
    assert_eq!(parse(&wrap("<A>")).unwrap_err().field, Field::Xml);
    assert_eq!(
        parse(&wrap(&"<A/>".repeat(MAX_ARGUMENTS + 1)))
            .unwrap_err()
            .field,
        Field::Element
    );
    let two = String::from_utf8(wrap(""))
        .unwrap()
        .replace("</s:Body>", "<b/></s:Body>");
    assert_eq!(field(&two), Field::Element);
}

#[test]
fn answer_is_escaped() {
    let outputs = [("NewPortMappingDescription", "<script>&\"'\u{1}".to_owned())];

    let text = String::from_utf8(response("urn:s", "Do", &outputs)).unwrap();

    assert!(text.contains(
        "<NewPortMappingDescription>&lt;script&gt;&amp;&quot;&apos;\u{fffd}</NewPortMappingDescription>"
    ));
    assert!(text.ends_with("</u:DoResponse></s:Body></s:Envelope>"));
}

#[test]
fn fault_is_that_of_the_standard() {
    let text = String::from_utf8(fault(ErrorCode::ConflictInMappingEntry)).unwrap();

    assert_eq!(
        text,
        "<?xml version=\"1.0\"?>\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><s:Fault>\
         <faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
         <UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>718</errorCode>\
         <errorDescription>ConflictInMappingEntry</errorDescription></UPnPError></detail></s:Fault>\
         </s:Body></s:Envelope>"
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _call = parse(&bytes);
    }

    #[test]
    fn arbitrary_markup_never_panics(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("<s:Body>".to_owned()), Just("</s:Body>".to_owned()), Just("<A>".to_owned()),
                Just("</A>".to_owned()), Just("&lt;".to_owned()), Just("<![CDATA[".to_owned()),
                Just("]]>".to_owned()), Just("<!--".to_owned()), Just("<?".to_owned()),
                Just("<a xmlns:s='".to_owned()), Just("'/>".to_owned()), "\\PC{0,8}",
            ],
            0..60,
        ),
    ) {
        let _call = parse(&wrap(&parts.concat()));
        let _call = parse(parts.concat().as_bytes());
    }

    #[test]
    fn what_is_emitted_is_parsed_again(value in "\\PC{0,40}") {
        let bytes = response("urn:s", "Do", &[("A", value.clone())]);

        let call = parse(&bytes).unwrap();

        prop_assert_eq!(call.action, "DoResponse");
        prop_assert_eq!(call.arguments, [("A".to_owned(), value)]);
    }
}

fn wrap(arguments: &str) -> Vec<u8> {
    format!(
        "<s:Envelope xmlns:s='{ENVELOPE}'><s:Body><u:Do xmlns:u='urn:s'>{arguments}</u:Do></s:Body></s:Envelope>"
    )
    .into_bytes()
}

#[test]
fn u_10_list_is_sent_as_control_points_read_it() {
    let value = "<a>&lt;]]>b</a>".to_owned();
    let answer = response(
        "urn:s",
        "GetListOfPortMappings",
        &[("NewPortListing", value)],
    );

    let text = std::str::from_utf8(&answer).unwrap();
    assert!(
        text.contains("<NewPortListing><![CDATA[<a>&lt;]]"),
        "{text}"
    );
    let read = parse(&answer).unwrap();
    assert_eq!(read.arguments[0].1, "<a>&lt;]]>b</a>");
}
