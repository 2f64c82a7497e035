//! What Cloud Hypervisor's crate does to a device, step by step, for the tests of our servers.
//!
//! ```text
//! client SOCKET STEP...
//! ```
//!
//! Each step is words with colons between them, numbers in decimal or after 0x, bytes in hexadecimal. Each answers with
//! a line of JSON on standard output, and the first that fails ends the program with code 1:
//!
//! ```text
//! info                               regions, with the areas that can be mapped
//! irqs:COUNT                         the first COUNT interrupt indexes
//! read:REGION:OFFSET:COUNT           bytes by message
//! write:REGION:OFFSET:BYTES
//! mapped-read:REGION:OFFSET:COUNT    bytes of the memory that the server shares
//! mapped-write:REGION:OFFSET:BYTES
//! until:REGION:OFFSET:BYTES          reads again and again, until it reads these
//! map:IOVA:SIZE                      memory for the device: a memfd that is shared
//! unmap:IOVA:SIZE
//! fill:IOVA:BYTES                    sets it
//! peek:IOVA:COUNT                    shows it
//! enable:INDEX:START:COUNT           an eventfd for each of these vectors
//! wait:INDEX:VECTOR                  until the vector was raised: how often
//! disable:INDEX
//! reset
//! ```
//!
//! The crate waits for ever for a reply that does not come, and takes an error for a short one: whoever runs this has to
//! set a limit to it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use vfio_user::Client;

/// VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, and the same with eventfds.
const DISABLE: u32 = 0x21;
const ENABLE: u32 = 0x24;

/// How long `until` and `wait` wait.
const PATIENCE: Duration = Duration::from_secs(20);

type Outcome<T> = Result<T, String>;

/// Memory of ours that the device has.
struct Memory {
    iova: u64,
    size: u64,
    file: File,
}

struct Session {
    client: Client,
    memories: Vec<Memory>,
    events: HashMap<(u32, u32), File>,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(socket) = args.next() else {
        eprintln!("usage: client SOCKET STEP...");
        return ExitCode::from(2);
    };
    match run(Path::new(&socket), args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("client: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(socket: &Path, steps: impl Iterator<Item = String>) -> Outcome<()> {
    let client = Client::new(socket).map_err(|error| error.to_string())?;
    let mut session = Session { client, memories: Vec::new(), events: HashMap::new() };
    for step in steps {
        let words: Vec<&str> = step.split(':').collect();
        let answer = session.act(&words).map_err(|why| format!("{step}: {why}"))?;
        println!("{answer}");
        std::io::stdout().flush().map_err(text)?;
    }
    session.client.shutdown().map_err(text)
}

impl Session {
    fn act(&mut self, words: &[&str]) -> Outcome<String> {
        match words {
            ["info"] => Ok(self.info()),
            ["irqs", count] => self.irqs(narrow(count)?),
            ["read", region, offset, count] => {
                let mut data = vec![0; narrow(count)? as usize];
                self.client.region_read(narrow(region)?, number(offset)?, &mut data).map_err(text)?;
                Ok(quoted(&data))
            }
            ["write", region, offset, data] => {
                let data = bytes(data)?;
                self.client.region_write(narrow(region)?, number(offset)?, &data).map_err(text)?;
                Ok("null".into())
            }
            ["mapped-read", region, offset, count] => {
                let mut data = vec![0; narrow(count)? as usize];
                let (file, at) = self.shared(narrow(region)?, number(offset)?, data.len() as u64)?;
                file.read_exact_at(&mut data, at).map_err(text)?;
                Ok(quoted(&data))
            }
            ["mapped-write", region, offset, data] => {
                let data = bytes(data)?;
                let (file, at) = self.shared(narrow(region)?, number(offset)?, data.len() as u64)?;
                file.write_all_at(&data, at).map_err(text)?;
                Ok("null".into())
            }
            ["until", region, offset, data] => self.until(narrow(region)?, number(offset)?, &bytes(data)?),
            ["map", iova, size] => self.map(number(iova)?, number(size)?),
            ["unmap", iova, size] => self.unmap(number(iova)?, number(size)?),
            ["fill", iova, data] => {
                let data = bytes(data)?;
                let (file, at) = self.memory(number(iova)?, data.len() as u64)?;
                file.write_all_at(&data, at).map_err(text)?;
                Ok("null".into())
            }
            ["peek", iova, count] => {
                let mut data = vec![0; narrow(count)? as usize];
                let (file, at) = self.memory(number(iova)?, data.len() as u64)?;
                file.read_exact_at(&mut data, at).map_err(text)?;
                Ok(quoted(&data))
            }
            ["enable", index, start, count] => self.enable(narrow(index)?, narrow(start)?, narrow(count)?),
            ["wait", index, vector] => self.wait(narrow(index)?, narrow(vector)?),
            ["disable", index] => {
                let index = narrow(index)?;
                self.client.set_irqs(index, DISABLE, 0, 0, &[]).map_err(text)?;
                self.events.retain(|(of, _), _| *of != index);
                Ok("null".into())
            }
            ["reset"] => {
                self.client.reset().map_err(text)?;
                Ok("null".into())
            }
            _ => Err("there is no such step".into()),
        }
    }

    fn info(&self) -> String {
        let regions = (0..).map_while(|index| self.client.region(index)).map(|region| {
            let areas = region.sparse_areas.iter().map(|area| format!("[{},{}]", area.offset, area.size));
            format!(
                r#"{{"index":{},"flags":{},"size":{},"isShared":{},"areas":[{}]}}"#,
                region.index,
                region.flags,
                region.size,
                region.file_offset.is_some(),
                join(areas),
            )
        });
        format!("[{}]", join(regions))
    }

    fn irqs(&mut self, count: u32) -> Outcome<String> {
        let mut infos = Vec::new();
        for index in 0..count {
            let info = self.client.get_irq_info(index).map_err(text)?;
            infos.push(format!(
                r#"{{"index":{},"flags":{},"count":{}}}"#,
                info.index, info.flags, info.count
            ));
        }
        Ok(format!("[{}]", join(infos.into_iter())))
    }

    /// The file behind a region, and where in it `offset` is: a client maps it there.
    fn shared(&self, index: u32, offset: u64, count: u64) -> Outcome<(&File, u64)> {
        let region = self.client.region(index).ok_or("there is no such region")?;
        let file = region.file_offset.as_ref().ok_or("the region is not shared")?;
        let is_inside = |start: u64, size: u64| offset >= start && offset + count <= start + size;
        let areas = &region.sparse_areas;
        if !areas.is_empty() && !areas.iter().any(|area| is_inside(area.offset, area.size)) {
            return Err("this is in no area that can be mapped".into());
        }
        Ok((file.file(), file.start() + offset))
    }

    fn until(&mut self, region: u32, offset: u64, wanted: &[u8]) -> Outcome<String> {
        let start = Instant::now();
        let mut data = vec![0; wanted.len()];
        while start.elapsed() < PATIENCE {
            self.client.region_read(region, offset, &mut data).map_err(text)?;
            if data == wanted {
                return Ok("null".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(format!("it still reads {}", quoted(&data)))
    }

    fn map(&mut self, iova: u64, size: u64) -> Outcome<String> {
        // SAFETY: the name is a C string; the descriptor is nobody else's.
        let fd = unsafe { libc::memfd_create(c"vfu-crate-client".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(text(std::io::Error::last_os_error()));
        }
        // SAFETY: as above.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(size).map_err(text)?;
        self.client.dma_map(0, iova, size, file.as_raw_fd()).map_err(text)?;
        self.memories.push(Memory { iova, size, file });
        Ok("null".into())
    }

    fn unmap(&mut self, iova: u64, size: u64) -> Outcome<String> {
        self.client.dma_unmap(iova, size).map_err(text)?;
        self.memories.retain(|memory| memory.iova != iova);
        Ok("null".into())
    }

    fn memory(&self, iova: u64, count: u64) -> Outcome<(&File, u64)> {
        self.memories
            .iter()
            .find(|memory| iova >= memory.iova && iova + count <= memory.iova + memory.size)
            .map(|memory| (&memory.file, iova - memory.iova))
            .ok_or("no memory is there".into())
    }

    fn enable(&mut self, index: u32, start: u32, count: u32) -> Outcome<String> {
        let mut fds: Vec<RawFd> = Vec::new();
        for vector in start..start + count {
            // SAFETY: no pointers; the descriptor is nobody else's.
            let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
            if fd < 0 {
                return Err(text(std::io::Error::last_os_error()));
            }
            // SAFETY: as above.
            self.events.insert((index, vector), unsafe { File::from_raw_fd(fd) });
            fds.push(fd);
        }
        self.client.set_irqs(index, ENABLE, start, count, &fds).map_err(text)?;
        Ok("null".into())
    }

    fn wait(&mut self, index: u32, vector: u32) -> Outcome<String> {
        let event = self.events.get_mut(&(index, vector)).ok_or("the vector is not enabled")?;
        let mut waiting = libc::pollfd { fd: event.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, which lives as long as the call.
        let ready = unsafe { libc::poll(&mut waiting, 1, PATIENCE.as_millis() as i32) };
        if ready != 1 {
            return Err("the interrupt did not come".into());
        }
        let mut count = [0; 8];
        event.read_exact(&mut count).map_err(text)?;
        Ok(u64::from_ne_bytes(count).to_string())
    }
}

fn number(word: &str) -> Outcome<u64> {
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("{word} is no number"))
}

fn narrow(word: &str) -> Outcome<u32> {
    number(word)?.try_into().map_err(|_| format!("{word} is too large"))
}

fn bytes(word: &str) -> Outcome<Vec<u8>> {
    let digits: Vec<u32> = word.chars().filter_map(|digit| digit.to_digit(16)).collect();
    if digits.len() != word.len() || digits.len() % 2 != 0 {
        return Err(format!("{word} is not bytes in hexadecimal"));
    }
    Ok(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

fn quoted(data: &[u8]) -> String {
    let digits: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
