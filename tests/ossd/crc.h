/*
 * crc.h: the CRC-64 of OSS (reflected ECMA-182 polynomial, register and result inverted), the server's own.
 *
 * The value of nothing is 0; a value is continued by passing it on. Pure and thread-safe after the first call.
 */
#ifndef OSSD_CRC_H
#define OSSD_CRC_H

#include <stddef.h>
#include <stdint.h>

uint64_t crc_update(uint64_t crc, const void *data, size_t n);

/* The value of A + B from the values of both and the bytes of B. */
uint64_t crc_combine(uint64_t a, uint64_t b, uint64_t bytes_of_b);

/* crc_update() without carry-less multiplication, for the test that compares both. */
uint64_t crc_update_table(uint64_t crc, const void *data, size_t n);

#endif
