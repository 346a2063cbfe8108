// SPDX-License-Identifier: GPL-3.0-or-later
//! A vector of boxes without bound, beside churn of the same size. site_rust SECONDS; built by bench_sites.py where rustc is there.
use std::time::{Duration, Instant};

const RATE: f64 = 131072.0;
const SIZE: usize = 499;
const CHURN: f64 = 100000.0;

struct Cache {
    items: Vec<Box<[u8; SIZE]>>,
}

impl Cache {
    const LINE: u32 = line!() + 3;
    #[inline(never)]
    fn remember(&mut self, value: u8) {
        self.items.push(Box::new([value; SIZE]));
    }
}

#[inline(never)]
fn churn(slots: &mut Vec<Option<Vec<u8>>>, random: &mut u64) {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let slot = (*random % slots.len() as u64) as usize;
    slots[slot] = Some(Vec::with_capacity(if *random & (1 << 20) != 0 { SIZE } else { 16 + (*random >> 32) as usize % 1024 }));
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(30.0);
    println!(
        "{{ \"victim\": \"site_rust\", \"pid\": {}, \"expected\": [\"leak\"], \"where\": \"heap\", \"function\": \"remember\", \"line\": {}, \
         \"bytes_per_s\": {RATE}, \"wrapper\": \"\", \"threads\": 1, \"churn_per_s\": {CHURN}, \"table_mib\": 0 }}",
        std::process::id(), Cache::LINE);
    let start = Instant::now();
    let mut cache = Cache { items: Vec::new() };
    let mut slots: Vec<Option<Vec<u8>>> = (0..1021).map(|_| None).collect();
    let (mut random, mut pairs, mut leaked) = (4099u64, 0f64, 0f64);
    loop {
        let now = start.elapsed().as_secs_f64();
        if now >= seconds {
            break;
        }
        while pairs < now * CHURN {
            churn(&mut slots, &mut random);
            pairs += 1.0;
        }
        while leaked < now * RATE {
            cache.remember(now as u8);
            leaked += SIZE as f64;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    println!("{{ \"seconds\": {:.3}, \"leaked_bytes\": {leaked}, \"pairs\": {pairs} }}", start.elapsed().as_secs_f64());
    std::hint::black_box(&cache.items);
}
