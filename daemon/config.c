#include "daemon/config.h"

#include "base/text.h"
#include "daemon/config_text.h"
#include "daemon/config_value.h"

#include <confuse.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Unknown options that are named in one run; parsing is tried again without each. */
#define UNKNOWN_MAX 16
#define ROWS_MAX 64

/* What libConfuse keeps for a value. */
struct value {
    unsigned line;
    char text[];
};

/* An unknown option, tolerated in the next attempt so that errors after it are found too. */
struct unknown {
    const struct config_schema *schema;
    char *name;
};

struct parse {
    const struct config_schema *schema;
    struct config_errors *errors;
    const struct config_text *text;
    size_t next_line; /* in text->lines: the next section to close */
    struct unknown unknown[UNKNOWN_MAX];
    size_t n_unknown;
    bool again; /* an unknown option was noted: parse once more */
    bool out_of_memory;
};

/* libConfuse's callbacks take no argument of ours; set during one call of cfg_parse_buf(). */
static _Thread_local struct parse *current;

static int keep_value(cfg_t *cfg, cfg_opt_t *opt, const char *text, void *out)
{
    size_t length = strlen(text);
    struct value *value = malloc(sizeof(*value) + length + 1);

    (void)opt;
    if (value == NULL) {
        current->out_of_memory = true;
        return -1;
    }
    value->line = (unsigned)cfg->line;
    memcpy(value->text, text, length + 1);
    *(void **)out = value;
    return 0;
}

/* A section has closed: from here on its line is the one where it began. */
static int close_section(cfg_t *cfg, cfg_opt_t *opt)
{
    unsigned n = cfg_opt_size(opt);

    (void)cfg;
    if (n > 0 && current->next_line < current->text->n_lines)
        cfg_opt_getnsec(opt, n - 1)->line = (int)current->text->lines[current->next_line++];
    return 0;
}

static const struct config_schema *find_schema(const struct config_schema *schema, const char *name)
{
    if (strcmp(name, "root") == 0)
        return schema;
    for (size_t i = 0; schema->sections != NULL && schema->sections[i] != NULL; i++) {
        const struct config_schema *inner = schema->sections[i];

        if (strcmp(inner->name, name) != 0)
            inner = find_schema(inner, name);
        if (inner != NULL)
            return inner;
    }
    return NULL;
}

static void report_unknown(struct parse *parse, const cfg_t *cfg, const char *name)
{
    const struct config_schema *schema = find_schema(parse->schema, cfg->name);
    const char *names[ROWS_MAX + 1] = {NULL};
    const char *nearest;
    size_t n = 0;

    if (schema == NULL)
        return;
    for (const struct config_option *o = schema->options; o->name != NULL && n < ROWS_MAX; o++)
        names[n++] = o->name;
    for (size_t i = 0; schema->sections != NULL && schema->sections[i] != NULL && n < ROWS_MAX; i++)
        names[n++] = schema->sections[i]->name;
    names[n] = NULL;
    nearest = text_nearest(name, names);
    config_errors_add(parse->errors, (unsigned)cfg->line, "unknown option \"%s\"%s%s%s%s%s", name,
                      schema->name[0] == '\0' ? "" : " in section ", schema->name,
                      nearest == NULL ? "" : "; did you mean \"", nearest == NULL ? "" : nearest,
                      nearest == NULL ? "" : "\"?");
    if (parse->n_unknown < UNKNOWN_MAX) {
        parse->unknown[parse->n_unknown] = (struct unknown){.schema = schema, .name = strdup(name)};
        if (parse->unknown[parse->n_unknown].name != NULL) {
            parse->n_unknown++;
            parse->again = true;
        }
    }
}

/* The second attempt trips over an unknown option that is a section: it has been reported already. */
static bool names_unknown(const struct parse *parse, const char *text)
{
    for (size_t i = 0; i < parse->n_unknown; i++) {
        const char *at = strstr(text, parse->unknown[i].name);

        if (at != NULL && at > text && at[-1] == '\'' && at[strlen(parse->unknown[i].name)] == '\'')
            return true;
    }
    return false;
}

static void report(cfg_t *cfg, const char *fmt, va_list args)
{
    char text[512];
    const char *name;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)vsnprintf(text, sizeof(text), fmt, args);
#pragma GCC diagnostic pop
    name = text_after(text, "no such option '");
    if (name != NULL && text[strlen(text) - 1] == '\'') {
        text[strlen(text) - 1] = '\0';
        report_unknown(current, cfg, name);
    } else if (text_after(text, "found duplicate title '") != NULL) {
        text[strlen(text) - 1] = '\0';
        config_errors_add(current->errors, (unsigned)cfg->line, "the name \"%s\" is taken by an earlier section",
                          text_after(text, "found duplicate title '"));
    } else if (!names_unknown(current, text)) {
        config_errors_add(current->errors, (unsigned)cfg->line, "%s", text);
    }
}

static bool is_list(enum config_type type)
{
    return type == CONFIG_LIST || type == CONFIG_PATHS;
}

static void free_rows(cfg_opt_t *rows)
{
    for (cfg_opt_t *row = rows; row != NULL && row->name != NULL; row++) {
        if (row->type == CFGT_SEC)
            free_rows(row->subopts);
    }
    free(rows);
}

/* The schema as libConfuse wants it; NULL when memory is exhausted. */
static cfg_opt_t *make_rows(const struct parse *parse, const struct config_schema *schema)
{
    cfg_opt_t *rows = calloc(2 * ROWS_MAX, sizeof(*rows));
    size_t n = 0;

    if (rows == NULL)
        return NULL;
    for (const struct config_option *o = schema->options; o->name != NULL && n < ROWS_MAX; o++) {
        const cfg_opt_t row =
            CFG_PTR_CB(o->name, NULL, is_list(o->type) ? CFGF_NODEFAULT | CFGF_LIST : CFGF_NODEFAULT, keep_value, free);

        rows[n++] = row;
    }
    for (size_t i = 0; i < parse->n_unknown; i++) {
        const cfg_opt_t row = CFG_PTR_LIST_CB(parse->unknown[i].name, NULL, CFGF_NODEFAULT, keep_value, free);

        if (parse->unknown[i].schema == schema)
            rows[n++] = row;
    }
    for (size_t i = 0; schema->sections != NULL && schema->sections[i] != NULL; i++) {
        const struct config_schema *inner = schema->sections[i];
        cfg_opt_t row = CFG_SEC(inner->name, NULL, CFGF_MULTI);

        row.subopts = make_rows(parse, inner);
        if (inner->title != NULL)
            row.flags |= CFGF_TITLE | CFGF_NO_TITLE_DUPES;
        row.validcb = close_section;
        if (row.subopts == NULL) {
            free_rows(rows);
            return NULL;
        }
        rows[n++] = row;
    }
    return rows;
}

static void free_section(struct config_section *section)
{
    if (section->values != NULL)
        config_value_free_all(section->schema, section->values);
    for (size_t i = 0; i < section->n_sections; i++)
        free_section(&section->sections[i]);
    free(section->sections);
    free(section->values);
    free(section->option_lines);
    free((char *)(uintptr_t)section->title);
}

static bool fill_options(struct config_value_context *context, cfg_t *cfg, struct config_section *ret)
{
    size_t row = 0;

    for (const struct config_option *o = ret->schema->options; o->name != NULL; o++, row++) {
        cfg_opt_t *opt = cfg_getopt(cfg, o->name);
        unsigned n = cfg_opt_size(opt);
        const char *texts[CONFIG_VALUE_LIST_MAX];

        if (n > CONFIG_VALUE_LIST_MAX) {
            config_errors_add(context->errors, ret->line, "%s has more than %d values", o->name, CONFIG_VALUE_LIST_MAX);
            n = CONFIG_VALUE_LIST_MAX;
        }
        for (unsigned i = 0; i < n; i++) {
            const struct value *value = cfg_opt_getnptr(opt, i);

            texts[i] = value->text;
            if (i == 0)
                ret->option_lines[row] = value->line;
        }
        context->line = ret->option_lines[row] != 0 ? ret->option_lines[row] : ret->line;
        if (!config_value_set(context, o, texts, n, ret->values))
            return false;
    }
    return true;
}

static bool fill_section(struct config_value_context *context, cfg_t *cfg, const struct config_schema *schema,
                         struct config_section *ret);

static size_t count_sections(cfg_t *cfg, const struct config_schema *schema)
{
    size_t n = 0;

    for (size_t i = 0; schema->sections != NULL && schema->sections[i] != NULL; i++)
        n += cfg_size(cfg, schema->sections[i]->name);
    return n;
}

static bool fill_sections(struct config_value_context *context, cfg_t *cfg, struct config_section *ret)
{
    const struct config_schema *schema = ret->schema;

    ret->sections = calloc(count_sections(cfg, schema) + 1, sizeof(*ret->sections));
    if (ret->sections == NULL)
        return false;
    for (size_t i = 0; schema->sections != NULL && schema->sections[i] != NULL; i++) {
        const struct config_schema *inner = schema->sections[i];
        unsigned n = cfg_size(cfg, inner->name);

        for (unsigned k = 0; k < n; k++) {
            cfg_t *section = cfg_getnsec(cfg, inner->name, k);

            if (k > 0 && !inner->repeated)
                config_errors_add(context->errors, (unsigned)section->line, "section %s is there again", inner->name);
            if (!fill_section(context, section, inner, &ret->sections[ret->n_sections++]))
                return false;
        }
    }
    return true;
}

static bool fill_section(struct config_value_context *context, cfg_t *cfg, const struct config_schema *schema,
                         struct config_section *ret)
{
    size_t rows = 0;

    ret->schema = schema;
    ret->line = schema->name[0] == '\0' ? 0 : (unsigned)cfg->line;
    while (schema->options[rows].name != NULL)
        rows++;
    ret->values = calloc(1, schema->size + 1);
    ret->option_lines = calloc(rows + 1, sizeof(unsigned));
    if (schema->title != NULL) {
        ret->title = strdup(cfg_title(cfg));
        if (ret->title != NULL && ret->title[0] == '\0')
            config_errors_add(context->errors, ret->line, "section %s needs a name", schema->name);
    }
    if (ret->values == NULL || ret->option_lines == NULL || (schema->title != NULL && ret->title == NULL))
        return false;
    return fill_options(context, cfg, ret) && fill_sections(context, cfg, ret);
}

/* Run libConfuse over the text as often as unknown options make it stop. NULL: the syntax is wrong and reported. */
static cfg_t *run(struct parse *parse)
{
    for (;;) {
        cfg_opt_t *rows = make_rows(parse, parse->schema);
        cfg_t *cfg = rows == NULL ? NULL : cfg_init(rows, CFGF_NONE);
        int r;

        free_rows(rows);
        if (cfg == NULL) {
            parse->out_of_memory = true;
            return NULL;
        }
        (void)cfg_set_error_function(cfg, report);
        parse->again = false;
        parse->next_line = 0;
        current = parse;
        r = cfg_parse_buf(cfg, parse->text->text);
        current = NULL;
        if (r == CFG_SUCCESS)
            return cfg;
        (void)cfg_free(cfg);
        if (parse->errors->total == 0)
            config_errors_add(parse->errors, 0, "cannot be parsed");
        if (!parse->again)
            return NULL;
    }
}

static char *folder_of(const char *file)
{
    char here[PATH_MAX];
    const char *slash = strrchr(file, '/');

    if (file[0] == '/')
        return slash == file ? strdup("/") : strndup(file, (size_t)(slash - file));
    if (getcwd(here, sizeof(here)) == NULL)
        return NULL;
    return slash == NULL ? strdup(here) : text_format("%s/%.*s", here, (int)(slash - file), file);
}

static result build(struct parse *parse, struct config *config)
{
    struct config_value_context context = {.config = config, .errors = parse->errors};
    cfg_t *cfg = run(parse);
    bool filled;

    if (cfg == NULL)
        return parse->out_of_memory ? ERROR_INTERNAL : ERROR_CONFIG;
    filled = fill_section(&context, cfg, parse->schema, &config->top);
    (void)cfg_free(cfg);
    if (!filled)
        return ERROR_INTERNAL;
    return parse->errors->total == 0 ? ERROR_NONE : ERROR_CONFIG;
}

result config_parse(const struct config_schema *schema, const struct config_source *source,
                    struct config_errors *errors, struct config **ret)
{
    struct config *config = calloc(1, sizeof(*config));
    struct config_text text = {0};
    struct parse parse = {.schema = schema, .errors = errors, .text = &text};
    result r = ERROR_INTERNAL;

    errors->file = source->file;
    if (config == NULL)
        return ERROR_INTERNAL;
    config->top.schema = schema;
    config->file = strdup(source->file);
    config->folder = folder_of(source->file);
    if (config->file == NULL || config->folder == NULL)
        goto err0;
    r = config_text_expand(source->text, source->length, source->expand ? getenv : NULL, errors, &text);
    if (r != ERROR_NONE)
        goto err0;
    r = build(&parse, config);
    for (size_t i = 0; i < parse.n_unknown; i++)
        free(parse.unknown[i].name);
    config->text = text.text;
    free(text.lines);
    if (r != ERROR_NONE)
        goto err0;
    *ret = config;
    return ERROR_NONE;

err0:
    config_free(config);
    return r;
}

void config_free(struct config *config)
{
    if (config == NULL)
        return;
    free_section(&config->top);
    free(config->file);
    free(config->folder);
    free(config->text);
    free(config);
}

static size_t row_of(const struct config_section *section, const char *name)
{
    size_t row = 0;

    while (section->schema->options[row].name != NULL && strcmp(section->schema->options[row].name, name) != 0)
        row++;
    return row;
}

bool config_given(const struct config_section *section, const char *name)
{
    size_t row = row_of(section, name);

    return section->schema->options[row].name != NULL && section->option_lines[row] != 0;
}

unsigned config_line(const struct config_section *section, const char *name)
{
    return config_given(section, name) ? section->option_lines[row_of(section, name)] : section->line;
}

char *config_resolve(const struct config *config, const char *path)
{
    return path[0] == '/' ? strdup(path) : text_format("%s/%s", config->folder, path);
}
