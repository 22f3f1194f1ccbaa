/*
 * crc.c: CRC-64 by carry-less multiplication, with a table for CPUs that have none and for short tails.
 *
 * A polynomial of degree below 64 is held reflected: bit i stands for x^(63-i). The product of two such words, read
 * as a reflected 128-bit word, is the true product times x. A 128-bit accumulator (L, H), L being the bytes that came
 * first, therefore moves D bits ahead as L * [x^(D+63)] + H * [x^(D-1)]; the constants are computed at start.
 */
#include "crc.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define POLY 0xC96C5795D7870F42u
#define ONE  0x8000000000000000u /* x^0 */

static uint64_t table[8][256];
static uint64_t fold[4][2]; /* for 512, 384, 256 and 128 bits ahead: of L, of H */
static bool has_clmul;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint64_t times_x(uint64_t a)
{
    return a >> 1 ^ (a & 1 ? POLY : 0);
}

static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product = 0;

    for (uint64_t bit = ONE; bit; bit >>= 1) {
        if (b & bit)
            product ^= a;
        a = times_x(a);
    }
    return product;
}

static uint64_t power_of_x(uint64_t n)
{
    uint64_t result = ONE, base = ONE >> 1;

    for (; n; n >>= 1) {
        if (n & 1)
            result = multiply(result, base);
        base = multiply(base, base);
    }
    return result;
}

static void prepare(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t v = i;
        for (int k = 0; k < 8; k++)
            v = times_x(v);
        table[0][i] = v;
    }
    for (unsigned t = 1; t < 8; t++)
        for (unsigned i = 0; i < 256; i++)
            table[t][i] = table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 255];
    for (unsigned i = 0; i < 4; i++) {
        uint64_t ahead = 512 - 128 * i;
        fold[i][0] = power_of_x(ahead + 63);
        fold[i][1] = power_of_x(ahead - 1);
    }
#if defined(__x86_64__)
    has_clmul = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
}

static uint64_t with_table(uint64_t state, const unsigned char *p, size_t n)
{
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        word ^= state;
        state = 0;
        for (unsigned k = 0; k < 8; k++)
            state ^= table[7 - k][word >> 8 * k & 255];
    }
    for (; n; n--, p++)
        state = state >> 8 ^ table[0][(state ^ *p) & 255];
    return state;
}

#if defined(__x86_64__)
__attribute__((target("pclmul,sse4.1"))) static inline __m128i ahead_by(__m128i a, __m128i constants)
{
    return _mm_xor_si128(_mm_clmulepi64_si128(a, constants, 0x00), _mm_clmulepi64_si128(a, constants, 0x11));
}

/* n is at least 64 and a multiple of 16. */
__attribute__((target("pclmul,sse4.1"))) static uint64_t with_clmul(uint64_t state, const unsigned char *p, size_t n)
{
    const __m128i *in = (const __m128i *)p;
    __m128i k[4], a[4];

    for (int i = 0; i < 4; i++) {
        k[i] = _mm_set_epi64x((long long)fold[i][1], (long long)fold[i][0]);
        a[i] = _mm_loadu_si128(in + i);
    }
    a[0] = _mm_xor_si128(a[0], _mm_set_epi64x(0, (long long)state));
    for (in += 4, n -= 64; n >= 64; in += 4, n -= 64)
        for (int i = 0; i < 4; i++)
            a[i] = _mm_xor_si128(ahead_by(a[i], k[0]), _mm_loadu_si128(in + i));
    __m128i all = _mm_xor_si128(_mm_xor_si128(ahead_by(a[0], k[1]), ahead_by(a[1], k[2])),
                                _mm_xor_si128(ahead_by(a[2], k[3]), a[3]));
    for (; n; in++, n -= 16)
        all = _mm_xor_si128(ahead_by(all, k[3]), _mm_loadu_si128(in));
    unsigned char rest[16];
    _mm_storeu_si128((__m128i *)rest, all);
    return with_table(0, rest, sizeof rest);
}
#endif

uint64_t crc_update_table(uint64_t crc, const void *data, size_t n)
{
    pthread_once(&once, prepare);
    return ~with_table(~crc, data, n);
}

uint64_t crc_update(uint64_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;

    pthread_once(&once, prepare);
    uint64_t state = ~crc;
#if defined(__x86_64__)
    if (has_clmul && n >= 64) {
        size_t blocks = n & ~(size_t)15;
        state = with_clmul(state, p, blocks);
        p += blocks;
        n -= blocks;
    }
#endif
    return ~with_table(state, p, n);
}

uint64_t crc_combine(uint64_t a, uint64_t b, uint64_t bytes_of_b)
{
    uint64_t shift = ONE, step = ONE >> 8; /* x^8: one byte */

    for (uint64_t n = bytes_of_b; n; n >>= 1) {
        if (n & 1)
            shift = multiply(shift, step);
        step = multiply(step, step);
    }
    return multiply(a, shift) ^ b;
}
