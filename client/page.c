#include "client/page.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 16384

bool page_has_colours(FILE *out)
{
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");

    return isatty(fileno(out)) == 1 && (no_colour == NULL || *no_colour == '\0') && terminal != NULL &&
           !text_equal(terminal, "dumb");
}

static const char *tone_begin(enum page_tone tone)
{
    static const char *const sequences[] = {[PAGE_PLAIN] = "",
                                            [PAGE_BOLD] = "\x1b[1m",
                                            [PAGE_GOOD] = "\x1b[32m",
                                            [PAGE_WARNING] = "\x1b[33m",
                                            [PAGE_BAD] = "\x1b[31m"};

    return sequences[tone];
}

/* Columns, not bytes: continuation bytes of UTF-8 do not count. */
static size_t columns(const char *text, size_t length)
{
    size_t n = 0;

    for (size_t i = 0; i < length; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

static void print_wrapped(FILE *out, const char *text, size_t column)
{
    size_t at = column;

    while (*text != '\0') {
        size_t length = strcspn(text, " "), wide = columns(text, length);

        if (at > column && at + 1 + wide > PAGE_WIDTH) {
            (void)fprintf(out, "\n%*s", (int)column, "");
            at = column;
        }
        if (at > column) {
            (void)fputc(' ', out);
            at++;
        }
        (void)fwrite(text, 1, length, out);
        at += wide;
        text += length;
        text += strspn(text, " ");
    }
}

void page_line(FILE *out, const struct page_place *place, const char *fmt, ...)
{
    const char *begin;
    char text[LINE_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    for (char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    }
    (void)fprintf(out, "%*s%-*s ", place->indent, "", PAGE_COLUMN - 1 - place->indent,
                  place->name != NULL ? place->name : "");
    begin = page_has_colours(out) ? tone_begin(place->tone) : "";
    (void)fputs(begin, out);
    print_wrapped(out, text, PAGE_COLUMN);
    (void)fputs(*begin != '\0' ? "\x1b[0m\n" : "\n", out);
}
