/* Writes the table of options for README.md, from the one that the program parses by. */
#include "../../fs/options.h"

#include <stdio.h>

int main(void)
{
    const struct option_spec *table;
    size_t n;

    table = options_table(&n);
    printf("| option | default | meaning |\n|---|---|---|\n");
    for (size_t i = 0; i < n; i++) {
        const struct option_spec *spec = &table[i];

        printf("| `%s%s%s` | %s%s%s | %s%s", spec->name, spec->argument ? "=" : "",
               spec->argument ? spec->argument : "", spec->standard ? spec->standard : "",
               spec->standard && *spec->unit ? " " : "", spec->standard ? spec->unit : "", spec->help,
               spec->argument && (spec->type == OPTION_COUNT || spec->type == OPTION_OCTAL) ? "" : " |\n");
        if (spec->argument && spec->type == OPTION_COUNT)
            printf("; %lld to %lld%s%s |\n", (long long)spec->min, (long long)spec->max, *spec->unit ? " " : "",
                   spec->unit);
        else if (spec->argument && spec->type == OPTION_OCTAL)
            printf("; %03llo to %03llo |\n", (unsigned long long)spec->min, (unsigned long long)spec->max);
    }
    return 0;
}
