use super::*;

/// What a head that comes in these pieces is: the bytes it takes of the last one, or its flaw.
fn scan(kind: Kind, pieces: &[&[u8]]) -> Result<Option<usize>, Flaw> {
    let mut scanner = Scanner::new(kind);
    let mut found = Ok(None);
    for piece in pieces {
        found = scanner.feed(piece);
        if !matches!(found, Ok(None)) {
            break;
        }
    }
    found
}

fn request(head: &str) -> Result<Option<usize>, Flaw> {
    scan(Kind::Request, &[head.as_bytes()])
}

fn response(head: &str) -> Result<Option<usize>, Flaw> {
    scan(Kind::Response, &[head.as_bytes()])
}

#[test]
fn a_head_ends_with_an_empty_line_wherever_it_is_cut() {
    let head = b"POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nX:\r\n\r\n";
    for cut in 0..head.len() {
        let (first, second) = head.split_at(cut);
        assert_eq!(scan(Kind::Request, &[first]), Ok(None), "{cut}");
        let body = [second, b"\nbody"].concat();
        assert_eq!(scan(Kind::Request, &[first, &body]), Ok(Some(second.len())), "{cut}");
        let bytes: Vec<_> = head.chunks(1).collect();
        assert_eq!(scan(Kind::Request, &bytes), Ok(Some(1)));
    }
}

#[test]
fn what_a_parser_behind_could_read_otherwise_is_refused() {
    for (head, why) in [
        ("GET / HTTP/1.1\n", "a line that ends with LF alone"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "a line that ends with LF alone"),
        ("GET /\r\n", "a request line that is not of three words"),
        ("GET  / HTTP/1.1\r\n", "a request line that is not of three words"),
        ("GET / HTTP/1.1 \r\n", "a request line that is not of three words"),
        ("GET /a b HTTP/1.1\r\n", "a request line that is not of three words"),
        ("GET\t/ HTTP/1.1\r\n", "a request line that is not of three words"),
        ("G@T / HTTP/1.1\r\n", "a method that is no token"),
        (
            "GET /a\tb HTTP/1.1\r\n",
            "a character in the target that may not be there",
        ),
        (
            "GET /\0 HTTP/1.1\r\n",
            "a character in the target that may not be there",
        ),
        (
            "GET /#a HTTP/1.1\r\n",
            "a character in the target that may not be there",
        ),
        ("GET / HTTP/1.2\r\n", "a version that is not HTTP/1.0 or HTTP/1.1"),
        ("GET / HTTP/0.9\r\n", "a version that is not HTTP/1.0 or HTTP/1.1"),
        ("GET / http/1.1\r\n", "a version that is not HTTP/1.0 or HTTP/1.1"),
        (" GET / HTTP/1.1\r\n", "no start line"),
        ("\x16\x03\x01", "no start line"),
    ] {
        assert_eq!(request(head), Err(Flaw::Malformed(why)), "{head:?}");
    }
    for (field, why) in [
        ("A : b", "a space before a colon"),
        ("A\t: b", "a space before a colon"),
        (" A: b", "a folded line"),
        ("\tA: b", "a folded line"),
        (": b", "a field without a name"),
        ("A", "a line that is no field"),
        (" A", "a line that is no field"),
        ("A\0: b", "a control character"),
        ("A: b\rc", "a CR that ends no line"),
        ("A: b\r", "a CR that ends no line"),
        ("A: b\0c", "a control character"),
        ("A: b\x7f", "a control character"),
        ("A: \x0bb", "a control character"),
        ("Content-Length: +5", "a length that is no number"),
        ("Content-Length: 0x5", "a length that is no number"),
        ("Content-Length: 5 5", "a length that is no number"),
        ("Content-Length: -1", "a length that is no number"),
        ("Content-Length:", "a length that is no number"),
        ("Content-Length: 5,", "a length that is no number"),
        ("Content-Length: 18446744073709551616", "a length that is no number"),
        ("Content-Length: 5, 6", "lengths that differ"),
        ("Content-Length: 5\r\nContent-length: 6", "lengths that differ"),
        (
            "Transfer-Encoding: gzip, chunked",
            "a transfer coding that is not chunked alone",
        ),
        (
            "Transfer-Encoding: chunked, identity",
            "a transfer coding that is not chunked alone",
        ),
        (
            "Transfer-Encoding: xchunked",
            "a transfer coding that is not chunked alone",
        ),
        (
            "Transfer-Encoding: \"chunked\"",
            "a transfer coding that is not chunked alone",
        ),
        ("Transfer-Encoding:", "a transfer coding that is not chunked alone"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "a transfer coding that is not chunked alone",
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "a length beside a transfer coding",
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "a length beside a transfer coding",
        ),
    ] {
        let flaw = Err(Flaw::Malformed(why));
        assert_eq!(
            request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")),
            flaw,
            "{field:?}"
        );
        assert_eq!(
            response(&format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n")),
            flaw,
            "{field:?}"
        );
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(request(old), Err(Flaw::Malformed("a transfer coding in HTTP/1.0")));
}

#[test]
fn a_cr_too_many_is_found_wherever_the_pieces_are_cut() {
    let head = b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n";
    for cut in 0..head.len() {
        let (first, second) = head.split_at(cut);
        let flaw = Flaw::Malformed("a CR that ends no line");
        assert_eq!(scan(Kind::Request, &[first, second]), Err(flaw), "{cut}");
    }
}

#[test]
fn what_is_odd_but_clear_passes() {
    for head in [
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        "GET http://a/ HTTP/1.0\r\n\r\n",
        "GET /%7B{a}|b\\ü HTTP/1.1\r\nHost: a\r\n\r\n",
        "M-SEARCH / HTTP/1.1\r\nA:b\r\nB:\r\nC: \t \r\nD: \u{fc}\tx \r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5, 05\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: \tCHUNKED \r\n\r\n",
    ] {
        assert_eq!(request(head), Ok(Some(head.len())), "{head:?}");
    }
}

#[test]
fn status_lines_are_read_as_they_are_written() {
    for (line, status) in [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.0 404 Not Found", 404),
        ("HTTP/1.1 204 ", 204),
        ("HTTP/1.1 204", 204),
        ("HTTP/1.1 103 Early Hints", 103),
        ("HTTP/1.1 999 \u{fc}", 999),
    ] {
        assert_eq!(start::response(line.as_bytes()).unwrap().status, status);
    }
    for line in [
        "HTTP/2 200",
        "HTTP/1.1  200",
        "HTTP/1.1 20",
        "HTTP/1.1 2000",
        "HTTP/1.1 020 A",
        "HTTP/1.1 +20 A",
        "HTTP/1.1\t200 OK",
        "ICY 200 OK",
        "",
    ] {
        assert!(start::response(line.as_bytes()).is_err(), "{line:?}");
    }
}

#[test]
fn another_head_follows_an_interim_one() {
    for (head, interim) in [
        ("HTTP/1.1 100 Continue\r\n\r\n", true),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", true),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
    ] {
        let mut scanner = Scanner::new(Kind::Response);
        assert_eq!(scanner.feed(head.as_bytes()), Ok(Some(head.len())));
        assert_eq!(scanner.is_interim(), interim, "{head:?}");
    }
}

#[test]
fn heads_are_bounded() {
    let head = |fields: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(fields));
    assert!(matches!(request(&head(256)), Ok(Some(_))));
    assert_eq!(request(&head(257)), Err(Flaw::TooMany));
    let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(MAX_BYTES));
    assert_eq!(request(&long), Err(Flaw::TooLarge));
    let pieces: Vec<_> = long.as_bytes().chunks(1000).collect();
    assert_eq!(scan(Kind::Request, &pieces), Err(Flaw::TooLarge));
}
