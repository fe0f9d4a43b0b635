#include "client/doctor.h"

#include "base/json.h"
#include "client/page.h"

#include <stdarg.h>
#include <string.h>

static const char *const level_names[] = {
    [DOCTOR_OK] = "ok", [DOCTOR_WARNING] = "warning", [DOCTOR_PROBLEM] = "problem"};

result doctor_start(struct doctor *doctor, struct error *err)
{
    *doctor = (struct doctor){.area = "", .findings = cJSON_CreateArray()};
    return doctor->findings != NULL ? ERROR_NONE : error_set(err, ERROR_INTERNAL, "out of memory");
}

void doctor_end(struct doctor *doctor)
{
    if (doctor != NULL)
        cJSON_Delete(doctor->findings);
}

/* lint: the parameters are the contract of doctor.h */
void doctor_say(struct doctor *doctor, enum doctor_level level, const char *subject, const char *fix, const char *fmt,
                ...)
{
    cJSON *finding = cJSON_CreateObject();
    char text[ERROR_TEXT_MAX * 2];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    (void)cJSON_AddStringToObject(finding, "area", doctor->area);
    (void)cJSON_AddStringToObject(finding, "subject", subject);
    (void)cJSON_AddStringToObject(finding, "result", level_names[level]);
    (void)cJSON_AddStringToObject(finding, "text", text);
    if (fix != NULL)
        (void)cJSON_AddStringToObject(finding, "fix", fix);
    else
        (void)cJSON_AddNullToObject(finding, "fix");
    (void)cJSON_AddItemToArray(doctor->findings, finding);
    doctor->n[level]++;
}

static void print_finding(const cJSON *finding, FILE *out)
{
    static const enum page_tone tones[] = {PAGE_GOOD, PAGE_WARNING, PAGE_BAD};
    const char *result_name = json_text(finding, "result"), *fix = json_text(finding, "fix");

    for (size_t i = 0; i < sizeof(tones) / sizeof(tones[0]); i++) {
        if (result_name != NULL && strcmp(result_name, level_names[i]) == 0)
            page_line(out, &(struct page_place){2, i == DOCTOR_PROBLEM ? "PROBLEM" : level_names[i], tones[i]},
                      "%s: %s", json_text(finding, "subject"), json_text(finding, "text"));
    }
    if (fix != NULL)
        page_line(out, &(struct page_place){4, "fix", PAGE_PLAIN}, "%s", fix);
}

void doctor_print_text(const struct doctor *doctor, FILE *out)
{
    const char *before = "";
    const cJSON *finding;

    cJSON_ArrayForEach(finding, doctor->findings)
    {
        const char *area = json_text(finding, "area");

        if (area != NULL && strcmp(area, before) != 0)
            (void)fprintf(out, "%s%s\n", *before != '\0' ? "\n" : "", area);
        before = area != NULL ? area : before;
        print_finding(finding, out);
    }
    (void)fprintf(out, "\n%zu problem%s, %zu warning%s, %zu ok\n", doctor->n[DOCTOR_PROBLEM],
                  doctor->n[DOCTOR_PROBLEM] == 1 ? "" : "s", doctor->n[DOCTOR_WARNING],
                  doctor->n[DOCTOR_WARNING] == 1 ? "" : "s", doctor->n[DOCTOR_OK]);
}

result doctor_print_json(const struct doctor *doctor, FILE *out, struct error *err)
{
    cJSON *tree = cJSON_CreateObject();
    char *text;

    (void)cJSON_AddBoolToObject(tree, "ok", doctor->n[DOCTOR_PROBLEM] == 0);
    (void)cJSON_AddNumberToObject(tree, "problems", (double)doctor->n[DOCTOR_PROBLEM]);
    (void)cJSON_AddNumberToObject(tree, "warnings", (double)doctor->n[DOCTOR_WARNING]);
    (void)cJSON_AddItemReferenceToObject(tree, "findings", doctor->findings);
    text = cJSON_Print(tree);
    cJSON_Delete(tree);
    if (text == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    (void)fprintf(out, "%s\n", text);
    cJSON_free(text);
    return ERROR_NONE;
}
