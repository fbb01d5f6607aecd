//# orig: -C metadata=one
//# patched: -C metadata=two
//# flags: -C symbol-mangling-version=v0
#![no_std]

#[inline(never)]
// One more comment, and a change.
pub fn pick(table: &[u32], at: usize) -> u32 {
    table[at] + 2
}

#[inline(never)]
pub fn sum<T: Copy + Into<u64>>(items: &[T]) -> u64 {
    let mut total = 0u64;
    let mut i = 0;
    while i < 4 {
        total = total.wrapping_add(items[i * 2].into());
        i += 1;
    }
    total
}

#[no_mangle]
pub extern "C" fn sum_u32(items: &[u32; 9], n: usize) -> u64 {
    sum(&items[..n])
}

#[no_mangle]
pub extern "C" fn plain(x: u32) -> u32 {
    x ^ 7
}

#[no_mangle]
pub extern "C" fn sum_u8(items: &[u8; 9], n: usize) -> u64 {
    sum(&items[..n])
}
