/*
 * The extent map driven by arbitrary bytes, six for each operation: its kind, a start, a length, an epoch or base.
 * After each the map must pass its own check and agree with the byte-by-byte model.
 */
#include "../unit/extent_model.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OPERATION_BYTES 6
#define OPERATIONS_MAX  200 /* longer inputs find nothing that these do not */
#define BASES           8

static void must(int r)
{
    if (r == 0)
        return;
    fprintf(stderr, "operation failed: %d\n", r);
    abort();
}

static void compare(const struct model *m, const struct extent_map *map, uint64_t start, uint64_t end)
{
    const char *difference;

    extent_map_check(map);
    difference = model_differs(m, map, start, end);
    for (int base = 0; base < BASES && !difference; base++)
        if (extent_map_uses(map, base) != model_uses(m, base))
            difference = "uses";
    if (difference) {
        fprintf(stderr, "map and model differ: %s\n", difference);
        abort();
    }
}

static void operate(struct extent_map *map, struct model *m, int kind, uint64_t start, uint64_t end, uint32_t epoch,
                    int base)
{
    switch (kind) {
    case 0:
        must(extent_map_set_base(map, base, end));
        model_set_base(m, base, end);
        break;
    case 1:
        must(extent_map_truncate(map, start, epoch));
        model_truncate(m, start, epoch);
        break;
    case 2:
        must(extent_map_commit(map, epoch, base, end));
        model_commit(m, epoch, base, end);
        break;
    case 3:
        must(extent_map_fetched(map, start, end));
        model_fetched(m, start, end);
        break;
    case 4:
        must(extent_map_drop(map, start, end));
        model_drop(m, start, end);
        break;
    default:
        must(extent_map_write(map, start, end, epoch));
        model_write(m, start, end, epoch);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model m;
    struct extent_map *map = extent_map_new();

    if (!map)
        abort();
    m.size = 0;
    for (size_t i = 0; i < OPERATIONS_MAX && size - i * OPERATION_BYTES >= OPERATION_BYTES; i++) {
        const uint8_t *op = data + i * OPERATION_BYTES;
        uint64_t start = (op[1] | (uint64_t)op[2] << 8) % (MODEL_MAX + 1);
        uint64_t end = start + (op[3] | (uint64_t)op[4] << 8) % (MODEL_MAX + 1 - start);
        struct extent_map *copy;

        operate(map, &m, op[0] % 7, start, end, op[5] % 16, op[5] % BASES);
        compare(&m, map, start / 2, end);
        if (op[0] < 128)
            continue;
        copy = extent_map_clone(map);
        if (!copy)
            abort();
        extent_map_free(map);
        map = copy;
    }
    extent_map_free(map);
    return 0;
}
