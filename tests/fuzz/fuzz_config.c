/*
 * What users and programs hand to us as text: access keys in JSON, INI and passwd form, commands, rules for headers.
 */
#include "../../cache/headers_rules.h"
#include "../../oss/cred_source.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* What goes into a header can neither end it nor begin another one. */
static void check_printable(const char *text)
{
    for (; *text; text++)
        check(*text >= ' ' && *text <= '~');
}

static void fuzz_keys(const char *text, size_t n)
{
    struct cred_profile profile = {0};
    struct cred_found found;
    struct oss_error err;
    struct oss_key key = {0};
    unsigned bad;

    error_reset(&err);
    if (cred_json(text, n, &found, &err) == 0) {
        check(*found.key.id && *found.key.secret && found.life_ms >= 0);
        check_printable(found.key.token);
    }
    if (cred_ini_text(text, n, "bucket", &key, &profile, &bad) == 0 && !profile.role) {
        check(*key.id && *key.secret);
        check_printable(key.id);
        check_printable(key.secret);
    }
    cred_profile_free(&profile);
    if (cred_passwd_text(text, n, "bucket", &key, &bad) == 0) {
        check(*key.id && *key.secret);
        check_printable(key.secret);
    }
}

static void fuzz_rules(const char *text, size_t n)
{
    struct rules rules = {0};
    char why[300] = "";
    int r = rules_read(&rules, text, n, why, sizeof(why));

    check(r == 0 || (r < 0 && strlen(why) < sizeof(why)));
    for (size_t i = 0; i < rules.n; i++) {
        for (size_t k = 0; k < RULE_FIELDS; k++)
            if (rules.v[i].fields[k])
                check_printable(rules.v[i].fields[k]);
        /* Long patterns of stars are slow in the C library's own matcher, and come from the user's own file. */
        if (strlen(rules.v[i].glob) < 8)
            rule_matches(&rules.v[i], "a/b.html");
    }
    rules_free(&rules);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    char *command = strndup(text, size), **words;
    size_t n;

    if (!size || !command) {
        free(command);
        return 0;
    }
    fuzz_keys(text, size);
    fuzz_rules(text, size);
    if (cred_words(command, &words, &n) == 0) {
        for (size_t i = 0; i < n; i++)
            check(strlen(words[i]) <= size);
        free(words);
    }
    free(command);
    return 0;
}
