/*
 * generate.c: fills the templates of this directory from the tables that the program itself works by, so that neither
 * the man page nor the completion can tell of an option that is not there, or miss one. Run by the Makefile.
 *
 *      generate <ossmount.1.in        lines ".\" @NAME@" are replaced by a section
 *      generate <ossmount.bash.in     lines "# @NAME@" are
 *      generate flags                    the flags of the mapping table, one in a line, for the lint
 */
#include "../command.h"
#include "../options.h"

#include "../../oss/error.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What `ossutil api put-object` can say of an upload, and how a mount says it. */
static const struct flag {
    const char *flag;
    const char *field;     /* option, and field of a rule */
    const char *attribute; /* NULL: none */
} flags[] = {
    {"--cache-control", "cache_control", "user.oss.cache_control"},
    {"--content-disposition", "content_disposition", "user.oss.content_disposition"},
    {"--content-encoding", "content_encoding", "user.oss.content_encoding"},
    {"--expires", "expires", "user.oss.expires"},
    {"--forbid-overwrite", "forbid_overwrite", NULL},
    {"--metadata", "meta", "user.NAME"},
    {"--object-acl", "acl", "user.oss.acl"},
    {"--server-side-encryption", "sse", "user.oss.sse (to be read)"},
    {"--server-side-data-encryption", "sse_data", "user.oss.sse_data (to be read)"},
    {"--server-side-encryption-key-id", "sse_key_id", "user.oss.sse_key_id (to be read)"},
    {"--storage-class", "storage_class", "user.oss.storage_class"},
    {"--tagging", "tagging", "user.oss.tagging"},
    {"(Content-Type)", "content_type", "user.oss.content_type"},
    {"(Content-Language)", "content_language", "user.oss.content_language"},
    {"(traffic limit)", "traffic_limit", NULL},
    {"(callback)", "callback", NULL},
    {"(callback variables)", "callback_var", NULL},
};
#define N_FLAGS (sizeof(flags) / sizeof(flags[0]))

/* --------------------------------------------------------------------------------------------------- man page */

/* `n` bytes of plain text in roff: nothing of it is a request, '-' is the one that is typed. */
static void roff_n(const char *text, size_t n, bool line_begins)
{
    for (size_t i = 0; i < n; i++) {
        if (line_begins && (text[i] == '.' || text[i] == '\''))
            fputs("\\&", stdout);
        line_begins = text[i] == '\n';
        if (text[i] == '\\')
            fputs("\\e", stdout);
        else if (text[i] == '-')
            fputs("\\-", stdout);
        else if (text[i] == '~')
            fputs("\\(ti", stdout);
        else if (text[i] == '^')
            fputs("\\(ha", stdout);
        else
            putchar(text[i]);
    }
}

static void roff(const char *text)
{
    roff_n(text, strlen(text), true);
}

static void man_options(void)
{
    size_t n;
    const struct option_spec *table = options_table(&n);

    for (size_t i = 0; i < n; i++) {
        const struct option_spec *o = &table[i];

        printf(".TP\n.B ");
        roff(o->name);
        if (o->argument) {
            printf("\\fR=\\fI");
            roff(o->argument);
        }
        printf("\n");
        roff(o->help);
        printf(".\n");
        if (o->argument && o->type == OPTION_COUNT && o->max < INT64_C(1) << 31)
            printf("%lld to %lld%s%s.\n", (long long)o->min, (long long)o->max, *o->unit ? " " : "", o->unit);
        else if (o->argument && o->type == OPTION_OCTAL)
            printf("%03llo to %03llo.\n", (unsigned long long)o->min, (unsigned long long)o->max);
        if (o->standard)
            printf("Default: %s%s%s.\n", o->standard, *o->unit ? " " : "", o->unit);
    }
}

static bool next_line(const char **text, const char **line, size_t *n)
{
    if (!**text)
        return false;
    *line = *text;
    *n = strcspn(*text, "\n");
    *text += *n + ((*text)[*n] == '\n');
    return true;
}

/* A command's help: its paragraphs, then its flags with what is indented below them. */
static void man_help(const char *help)
{
    const char *line;
    size_t n, flag;
    bool in_flags = false;

    while (next_line(&help, &line, &n)) {
        if (n > 2 && strncmp(line, "  -", 3) == 0) {
            printf("%s.TP\n.B ", in_flags ? "" : ".RS\n");
            in_flags = true;
            /* Two blanks end the flag; a long one is ended by one. */
            for (flag = 2; flag < n && strncmp(line + flag, "  ", 2) != 0 && flag < 25;)
                flag++;
            while (line[flag - 1] == ' ')
                flag--;
            roff_n(line + 2, flag - 2, true);
            line += flag;
            n -= flag;
            printf("\n");
        }
        for (; n && *line == ' '; n--)
            line++;
        if (n) {
            roff_n(line, n, true);
            printf("\n");
        } else if (*help && strncmp(help, "  -", 3) != 0) {
            printf(".IP\n");
        }
    }
    if (in_flags)
        printf(".RE\n");
}

static void man_commands(void)
{
    size_t n;
    const struct command *table = command_table(&n);

    for (size_t i = 0; i < n; i++) {
        printf(".TP\n.B ossmount ");
        roff(table[i].name);
        printf(" \\fR");
        roff(table[i].arguments);
        printf("\n%c", toupper((unsigned char)table[i].summary[0]));
        roff(table[i].summary + 1);
        printf(".\n");
        man_help(table[i].help);
    }
}

static void man_flags(void)
{
    printf(".TS\nl l l.\n\\fBossutil\\fR\t\\fB\\-o\\fR or \\fBheaders=\\fR\t\\fBattribute\\fR\n");
    for (size_t i = 0; i < N_FLAGS; i++) {
        roff(flags[i].flag);
        printf("\t%s=\t%s\n", flags[i].field, flags[i].attribute ? flags[i].attribute : "\\-");
    }
    printf(".TE\n");
}

static void man_errors(void)
{
    size_t n;
    const struct error_code *codes = error_codes(&n);

    for (size_t i = 0; i < n; i++) {
        printf(".TP\n.BR %s \" (%s)\"\n", codes[i].code, strerrorname_np(codes[i].err));
        if (*codes[i].advice) {
            roff(codes[i].advice);
            printf(".\n");
        } else {
            printf("The operation says all.\n");
        }
    }
}

/* -------------------------------------------------------------------------------------------------- completion */

static void bash_options(void)
{
    size_t n;
    const struct option_spec *table = options_table(&n);

    printf("_ossmount_options=(");
    for (size_t i = 0; i < n; i++)
        printf("%s%s%s", i ? " " : "", table[i].name, table[i].argument && table[i].type != OPTION_FLAG ? "=" : "");
    printf(")\ndeclare -gA _ossmount_values=(");
    for (size_t i = 0; i < n; i++) {
        const char *a = table[i].argument;

        if (table[i].type == OPTION_PATH)
            printf(" [%s]=/", table[i].name);
        else if (table[i].type == OPTION_FLAG)
            printf(" [%s]='yes no'", table[i].name);
        else if (table[i].type == OPTION_LEVEL)
            printf(" [%s]='critical error warning info debug'", table[i].name);
        else if (a && strchr(a, '|'))
            printf(" [%s]='%.*s %s'", table[i].name, (int)strcspn(a, "|"), a, strchr(a, '|') + 1);
    }
    printf(" )\n");
}

/* The flags of one command, from its --help; those that take a value end in '='. */
static void bash_flags(const char *help)
{
    const char *line;
    size_t n;

    while (next_line(&help, &line, &n)) {
        if (n < 4 || strncmp(line, "  -", 3) != 0)
            continue;
        for (size_t i = 2; i < n && line[i] == '-';) {
            size_t end = i + strcspn(line + i, " ,=[\n");
            /* A value, and not an optional one. */
            bool value = line[end] == ' ' && isupper((unsigned char)line[end + 1]);

            printf(" %.*s%s", (int)(end - i), line + i, value ? "=" : "");
            if (line[end] != ',')
                break;
            i = end + 2;
        }
    }
}

static void bash_commands(void)
{
    size_t n;
    const struct command *table = command_table(&n);

    printf("declare -gA _ossmount_commands=(\n");
    for (size_t i = 0; i < n; i++) {
        printf("    [%s]='-h --help", table[i].name);
        bash_flags(table[i].help);
        printf("'\n");
    }
    printf(")\n");
}

/* ----------------------------------------------------------------------------------------------------- templates */

static const struct section {
    const char *line;
    void (*print)(void);
} sections[] = {
    {".\\\" @OPTIONS@", man_options}, {".\\\" @COMMANDS@", man_commands}, {".\\\" @FLAGS@", man_flags},
    {".\\\" @ERRORS@", man_errors},   {"# @OPTIONS@", bash_options},      {"# @COMMANDS@", bash_commands},
};
#define N_SECTIONS (sizeof(sections) / sizeof(sections[0]))

static int fill(FILE *template)
{
    char line[4096];

    while (fgets(line, sizeof(line), template)) {
        size_t i = 0;

        line[strcspn(line, "\n")] = '\0';
        while (i < N_SECTIONS && strcmp(line, sections[i].line) != 0)
            i++;
        if (i < N_SECTIONS)
            sections[i].print();
        else
            puts(line);
    }
    return ferror(template) || fflush(stdout) != 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "flags") == 0) {
        for (size_t i = 0; i < N_FLAGS; i++)
            puts(flags[i].flag);
        return fflush(stdout) != 0;
    }
    if (argc != 1) {
        fputs("usage: generate <TEMPLATE | generate flags\n", stderr);
        return 2;
    }
    return fill(stdin);
}
