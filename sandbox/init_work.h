#pragma once
/*
 * holdfast-init's parts, seen by each other only: init.c, init_mount.c. What it works on is static,
 * one process doing one job, so that a clone finds it at the same address.
 */
#include "sandbox/init.h"

extern uint8_t init_plan[INIT_PLAN_MAX]; /* what the keeper sent last; offsets are into it */
extern int init_trees[INIT_SOURCES_MAX]; /* detached, of a template's sources */
extern size_t init_tree_count;

static inline const void *at(uint32_t offset)
{
	return init_plan + offset;
}

static inline const char *str(uint32_t offset)
{
	return (const char *)init_plan + offset;
}

/* ---- init.c ---- */

int init_send_fd(int sock, enum init_report_type type, int fd); /* negative errno */
/* Reports and exits. object: offset of the name that it is about; 0 = none. */
_Noreturn void init_fail(int sock, enum init_stage stage, int error, uint32_t object);

/* ---- init_mount.c ---- */

uint64_t init_mount_attrs(uint16_t flags); /* MOUNT_ATTR_* of INIT_OP_* */
/* Gives the folders that an overlay of these mount options made to their owner. */
void init_mount_open_work(const char *options);
/* Does all of ops below root; the first that fails is the end of the process (init_fail). */
void init_mount_follow(int root, const struct init_list *ops, int status, enum init_stage stage);
