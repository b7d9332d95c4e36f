//! A store that says one thing whatever it is asked, to the byte.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// A listener that answers every request with the same bytes. Its thread ends with the process.
pub struct Canned {
    addr: SocketAddr,
    asked: Arc<Mutex<String>>,
}

impl Canned {
    /// `head` are the header lines without the status line, each with its end; a length is added where they don't begin with one.
    pub fn start(head: &[u8], body: &str) -> Self {
        let mut answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n".to_vec();
        answer.extend_from_slice(head);
        if head.starts_with(b"content-length") {
            answer.extend_from_slice(b"\r\n");
        } else {
            answer.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        }
        answer.extend_from_slice(body.as_bytes());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(String::new()));
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0)
                {
                    request.push(byte[0]);
                }
                *noted.lock().expect("no panic") = String::from_utf8_lossy(&request).into_owned();
                let _ = stream.write_all(&answer);
            }
        });
        Self { addr, asked }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The last request's lines.
    pub fn asked(&self) -> String {
        self.asked.lock().expect("no panic").clone()
    }
}
