/*
 * Arithmetic is on polynomials over GF(2) modulo that of CRC-64/XZ, in the reflected form: bit 63 of a word is the
 * coefficient of x^0, so that the first byte of the data, loaded little-endian, has the highest powers.
 */
#include "crc64.h"

#include <endian.h>
#include <string.h>

#define POLYNOMIAL UINT64_C(0xc96c5795d7870f42)
#define ONE        (UINT64_C(1) << 63) /* x^0 */

/* table[k][b]: the register that byte b leaves after k zero bytes behind it. */
static uint64_t table[16][256];

/* zeros[k]: x^(8 * 2^k), the factor of 2^k zero bytes. */
static uint64_t zeros[64];

/* The form in use, chosen before main(). It takes and returns the bare register. */
static uint64_t (*update)(uint64_t reg, const unsigned char *p, size_t n);

/* a * b */
static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product = 0;

    for (; a; a <<= 1) {
        if (a & ONE)
            product ^= b;
        b = (b >> 1) ^ (b & 1 ? POLYNOMIAL : 0);
    }
    return product;
}

/* ------------------------------------------------------------------------------------------------- table */

static uint64_t load(const unsigned char *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof word);
    return le64toh(word);
}

static uint64_t update_table(uint64_t reg, const unsigned char *p, size_t n)
{
    for (; n >= 16; p += 16, n -= 16) {
        const uint64_t x = load(p) ^ reg, y = load(p + 8);

        reg = table[15][x & 255] ^ table[14][x >> 8 & 255] ^ table[13][x >> 16 & 255] ^ table[12][x >> 24 & 255] ^
              table[11][x >> 32 & 255] ^ table[10][x >> 40 & 255] ^ table[9][x >> 48 & 255] ^ table[8][x >> 56] ^
              table[7][y & 255] ^ table[6][y >> 8 & 255] ^ table[5][y >> 16 & 255] ^ table[4][y >> 24 & 255] ^
              table[3][y >> 32 & 255] ^ table[2][y >> 40 & 255] ^ table[1][y >> 48 & 255] ^ table[0][y >> 56];
    }
    for (; n; p++, n--)
        reg = table[0][(reg ^ *p) & 255] ^ reg >> 8;
    return reg;
}

/* -------------------------------------------------------------------------------- carry-less multiplication */

#ifdef __x86_64__
#include <immintrin.h>

/*
 * Folding: 128 bits of data are a polynomial S = L x^64 + H (L the low word, which came first). Moving it D bits
 * ahead, S x^D is congruent to L (x^(D+64) mod P) + H (x^D mod P): two multiplications, whose result is added to
 * the data D bits further on. The instruction yields one power of x too many in the reflected form, so the factors
 * have one less.
 */
struct factor {
    uint64_t low, high; /* for L and H */
};
static struct factor fold_128, fold_1024; /* ahead by 16 and by 128 bytes */

/* x^n */
static uint64_t power(unsigned n)
{
    uint64_t p = ONE;

    while (n--)
        p = (p >> 1) ^ (p & 1 ? POLYNOMIAL : 0);
    return p;
}

static void factor_init(struct factor *f, unsigned bits)
{
    f->low = power(bits + 63);
    f->high = power(bits - 1);
}

#define CLMUL __attribute__((target("pclmul,sse4.1")))

CLMUL static inline __m128i load_factor(const struct factor *f)
{
    return _mm_set_epi64x((long long)f->high, (long long)f->low);
}

/* S moved ahead, plus the data found there. */
CLMUL static inline __m128i fold(__m128i s, __m128i factor, __m128i data)
{
    return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(s, factor, 0x00), _mm_clmulepi64_si128(s, factor, 0x11)),
                         data);
}

/* Eight sums at a time hide the latency of the multiplication; n is at least 128. */
CLMUL static uint64_t update_clmul_long(uint64_t reg, const unsigned char *p, size_t n)
{
    const __m128i far = load_factor(&fold_1024), near = load_factor(&fold_128);
    const __m128i *v = (const __m128i *)(const void *)p;
    __m128i s[8], sum;
    unsigned char rest[16];

    for (int i = 0; i < 8; i++)
        s[i] = _mm_loadu_si128(v + i);
    s[0] = _mm_xor_si128(s[0], _mm_set_epi64x(0, (long long)reg));
    for (v += 8, n -= 128; n >= 128; v += 8, n -= 128)
        for (int i = 0; i < 8; i++)
            s[i] = fold(s[i], far, _mm_loadu_si128(v + i));
    sum = s[0];
    for (int i = 1; i < 8; i++)
        sum = fold(sum, near, s[i]);
    for (; n >= 16; v++, n -= 16)
        sum = fold(sum, near, _mm_loadu_si128(v));
    /* What remains to be done with the sum is what the table does with data: S x^64 modulo P. */
    _mm_storeu_si128((__m128i *)(void *)rest, sum);
    reg = update_table(0, rest, sizeof rest);
    return update_table(reg, (const unsigned char *)v, n);
}

static uint64_t update_clmul(uint64_t reg, const unsigned char *p, size_t n)
{
    return n < 128 ? update_table(reg, p, n) : update_clmul_long(reg, p, n);
}
#endif

/* -------------------------------------------------------------------------------------------------- face */

/* Before main() and all threads, so that no call has to ask whether it was done. */
__attribute__((constructor)) static void crc64_init(void)
{
    for (unsigned b = 0; b < 256; b++) {
        uint64_t reg = b;

        for (int bit = 0; bit < 8; bit++)
            reg = reg >> 1 ^ (reg & 1 ? POLYNOMIAL : 0);
        table[0][b] = reg;
    }
    for (int k = 1; k < 16; k++)
        for (unsigned b = 0; b < 256; b++)
            table[k][b] = table[0][table[k - 1][b] & 255] ^ table[k - 1][b] >> 8;

    zeros[0] = ONE >> 8;
    for (int k = 1; k < 64; k++)
        zeros[k] = multiply(zeros[k - 1], zeros[k - 1]);

    update = update_table;
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) {
        factor_init(&fold_128, 128);
        factor_init(&fold_1024, 1024);
        update = update_clmul;
    }
#endif
}

uint64_t crc64(uint64_t crc, const void *data, size_t n)
{
    return ~update(~crc, data, n);
}

uint64_t crc64_table(uint64_t crc, const void *data, size_t n)
{
    return ~update_table(~crc, data, n);
}

/* What becomes of a difference in the register when n further bytes pass. */
static uint64_t shift(uint64_t crc, uint64_t n)
{
    for (int k = 0; n; n >>= 1, k++)
        if (n & 1)
            crc = multiply(zeros[k], crc);
    return crc;
}

uint64_t crc64_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b)
{
    /* The initial and the final value are both all ones and cancel out. */
    return shift(crc_a, len_b) ^ crc_b;
}

uint64_t crc64_replace(uint64_t crc, uint64_t crc_old, uint64_t crc_new, uint64_t after)
{
    return crc ^ shift(crc_old ^ crc_new, after);
}
