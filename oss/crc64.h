/*
 * CRC-64 of OSS (CRC-64/XZ; fact sheet section 8.1), all pure and thread-safe.
 *
 * The empty value is 0; a value is continued by passing it as `crc`.
 */
#ifndef OSS_CRC64_H
#define OSS_CRC64_H

#include <stddef.h>
#include <stdint.h>

/* The CRC of A + data, given that of A. Carry-less multiplication where the CPU has it. */
uint64_t crc64(uint64_t crc, const void *data, size_t n);

/* The CRC of A + B from the CRCs of A and B and the length of B in bytes. */
uint64_t crc64_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b);

/*
 * The CRC of an object in which the bytes B were replaced by B' of the same length, with `after` bytes behind them:
 * crc ^ shift(crc_old ^ crc_new, after).
 */
uint64_t crc64_replace(uint64_t crc, uint64_t crc_old, uint64_t crc_new, uint64_t after);

/* The portable table form, exported for the tests that compare both. */
uint64_t crc64_table(uint64_t crc, const void *data, size_t n);

#endif
