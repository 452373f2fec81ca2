//! Servers on loopback for the tests of stores: one of files, and one that stands before another and fails.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Answers `GET` and `HEAD` of some files, with ranges, as a web server does.
pub struct FileServer {
    pub url: String,
    /// Requests that it was asked.
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl FileServer {
    /// The first `failures` requests are answered with 503.
    pub fn new(files: HashMap<String, Vec<u8>>, failures: usize) -> Self {
        let (listener, requests) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(Mutex::new(vec![])));
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, left) = (Arc::clone(&requests), Arc::new(AtomicUsize::new(failures)));
        let files = Arc::new(files);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, seen, left) = (Arc::clone(&files), Arc::clone(&seen), Arc::clone(&left));
                std::thread::spawn(move || while serve(&stream, &files, &seen, &left).is_some() {});
            }
        });
        Self { url, requests }
    }
}

/// One request; none when the connection is to be closed.
fn serve(stream: &TcpStream, files: &HashMap<String, Vec<u8>>, seen: &Mutex<Vec<String>>, left: &AtomicUsize) -> Option<()> {
    let head = head(stream)?;
    let mut words = head.split_whitespace();
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    seen.lock().unwrap().push(format!("{method} {path}"));
    let mut out = stream;
    if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
        return out.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").ok();
    }
    let Some(file) = files.get(&path).filter(|_| method == "GET" || method == "HEAD") else {
        return out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok();
    };
    let range = head.lines().find_map(|l| l.to_lowercase().strip_prefix("range: bytes=").map(str::to_string));
    let (status, from, to) = match range.as_deref().and_then(|r| r.split_once('-')) {
        None => ("200 OK".to_string(), 0, file.len()),
        Some((from, to)) => {
            let last = file.len() - 1;
            let (from, to) = match from.parse() {
                Ok(from) => (from, to.parse().unwrap_or(last).min(last)),
                Err(_) => (file.len() - to.parse::<usize>().unwrap(), last),
            };
            (format!("206 Partial Content\r\nContent-Range: bytes {from}-{to}/{}", file.len()), from, to + 1)
        }
    };
    let stamp = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nAccept-Ranges: bytes\r\nETag: \"a\"";
    out.write_all(format!("HTTP/1.1 {status}\r\n{stamp}\r\nContent-Length: {}\r\n\r\n", to - from).as_bytes()).ok()?;
    if method == "GET" { out.write_all(&file[from..to]).ok() } else { Some(()) }
}

/// The head of a request; none at the end of the connection.
fn head(stream: &TcpStream) -> Option<String> {
    let (mut reader, mut out) = (BufReader::with_capacity(1, stream), String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            return Some(out);
        }
        out += &line;
    }
}

/// A relay to the server at `to` (host and port) that answers the first `failures` connections with 503.
pub fn failing_relay(to: &str, failures: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, to) = (format!("http://{}", listener.local_addr().unwrap()), to.to_string());
    let failed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failed);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if count.load(Ordering::Relaxed) < failures {
                count.fetch_add(1, Ordering::Relaxed);
                if head(&stream).is_some() {
                    let _ = (&stream).write_all(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                }
                continue;
            }
            let Ok(server) = TcpStream::connect(&to) else { continue };
            pump(stream.try_clone().unwrap(), server.try_clone().unwrap());
            pump(server, stream);
        }
    });
    (url, failed)
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 || to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
