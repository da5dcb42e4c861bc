/*
 * The protocol of task contexts: attach, detach, attach_global, detach_global, fork, exit and the look-up of
 * samples, every one running against the others. README.md says what is modelled, what is not, and why.
 *
 * One step of this model is one access to shared memory. What a step does besides (leaving a read section,
 * handing an object to RCU) is merged into it where that only lets memory be reclaimed earlier.
 */

#if defined(FAULT_A) || defined(FAULT_C_LOCKED)
#define WALK_IN_WRITE_LOCK
#endif

#define POOL 4
#define TASKS 3
#define PARENT 0    /* sessions, exit, fork's parent */
#define BYSTANDER 1 /* only ever seen by walks */
#define CHILD 2     /* forked while the others run */

#define NONE 0 /* no context: contexts are 1 ... POOL */

/* Names for assertions: always 0, printed by pan with the assertion that failed. */
hidden byte access_after_free, access_outside_section, double_free, reference_after_zero, count_below_zero;
hidden byte lost_reference, task_not_covered, trace_left, contexts_left, accounting_wrong, foreign_history;
hidden byte allocates_in_lock, exit_waits, write_section_grows, walk_not_linear, slot_after_free, not_dead;

/* A context's life. A dead one (no references left) may still be in its slot. */
#define FREE 0
#define CANDIDATE 1
#define LIVE 2
#define DEAD 3
#define WAITING 4 /* unlinked: for the readers that may see it */

byte life[POOL + 1];
byte count[POOL + 1];
bit global[POOL + 1];
byte owner[POOL + 1];   /* 1 + task whose history it holds */

/* A task's slot: in the table, or removed from it and waiting for readers like a context. */
#define ABSENT 0
#define IN_TABLE 1
#define REMOVED 2

byte known[TASKS];
byte slot[TASKS];
bit exiting[TASKS];

byte in_section;   /* who is in an RCU read section: one bit an actor */
byte sees[4];      /* an actor in its section: the WAITING contexts that it may have found, one bit each */
byte sees_slot[4]; /* and the REMOVED slots */

/* The percpu-rwsem, as what percpu_rwsem.pml shows it to be. Who tries to read is turned away by the flag. */
byte read_locks;
bit flag; /* a writer waits or is in */
bit write_locked;

bit wanted;     /* "global, or going there": forks attach. Written under the write lock only */
byte users;     /* global count */
bit transition; /* mutex of attach_global's and detach_global's slow paths */

/* What only the assertions look at. */
byte sessions[TASKS]; /* references that sessions hold */
byte covered;         /* global users between the return of attach_global and the call of detach_global */
bit ready[TASKS];     /* fork has returned */
bit unknown[TASKS];   /* the fork had no memory for a context */
byte running;         /* operations under way */

#define BIT(n) (1 << (n))

/* ---- RCU. What waits may be reclaimed as soon as nobody who may see it is in the section he was in. ---- */

inline section_begin() { in_section = in_section | BIT(me) }

inline section_end() {
  d_step {
    in_section = in_section & ~BIT(me);
    sees[me] = 0;
    sees_slot[me] = 0
  }
}

#define SEEN(c) ((sees[0] | sees[1] | sees[2] | sees[3]) & BIT(c))
#define SEEN_SLOT(t) ((sees_slot[0] | sees_slot[1] | sees_slot[2] | sees_slot[3]) & BIT(t))

/* To the pool after a grace period. Whoever unlinks a context calls this, once. */
inline retire(c) {
  d_step {
    assert(life[c] == LIVE || life[c] == DEAD || double_free);
    life[c] = WAITING;
#ifndef NO_GRACE_PERIOD
    sees[0] = sees[0] | (in_section & BIT(0) -> BIT(c) : 0);
    sees[1] = sees[1] | (in_section & BIT(1) -> BIT(c) : 0);
    sees[2] = sees[2] | (in_section & BIT(2) -> BIT(c) : 0);
    sees[3] = sees[3] | (in_section & BIT(3) -> BIT(c) : 0);
#endif
  }
}

#define RECLAIMED(c) (life[c] == WAITING && !SEEN(c))
#define AVAILABLE(c) (life[c] == FREE || RECLAIMED(c))

inline may_access(c) {
  d_step {
    assert((in_section & BIT(me)) || access_outside_section);
    assert(life[c] == LIVE || life[c] == DEAD || (life[c] == WAITING && (sees[me] & BIT(c))) || access_after_free)
  }
}

inline may_access_slot(t) {
  d_step {
    assert((in_section & BIT(me)) || access_outside_section);
    assert(known[t] == IN_TABLE || (known[t] == REMOVED && (sees_slot[me] & BIT(t))) || slot_after_free)
  }
}

/* ---- Assertions over everything ---- */

#define COVERED(t)                                                                                              \
  (!ready[t] || exiting[t] || unknown[t] || (slot[t] != NONE && life[slot[t]] == LIVE && global[slot[t]]))

inline check_covered() {
  assert(!covered || (COVERED(0) && COVERED(1) && COVERED(2)) || task_not_covered)
}

#define UNMARKED(t) (slot[t] == NONE || exiting[t] || !global[slot[t]])

inline check_no_trace() { assert((UNMARKED(0) && UNMARKED(1) && UNMARKED(2)) || trace_left) }

/* With nothing under way: the count is the sessions' references and one for the mark. */
#define ACCOUNTED(t)                                                                                            \
  (exiting[t] ||                                                                                                \
   (slot[t] == NONE -> sessions[t] == 0                                                                         \
                    : (life[slot[t]] == LIVE && count[slot[t]] == sessions[t] + global[slot[t]] &&              \
                       (global[slot[t]] == wanted || unknown[t]) && owner[slot[t]] == t + 1)))

inline begin() {
  d_step { running = running + !under_way; under_way = 1 }
}

inline end() {
  d_step {
    running = running - under_way;
    under_way = 0;
    assert(running || (ACCOUNTED(0) && ACCOUNTED(1) && ACCOUNTED(2)) || accounting_wrong)
  }
}

/* ---- Contexts ---- */

/*
 * mine: a candidate with one reference, or NONE, also where there are free ones. Free contexts are alike as long
 * as nobody has kept a pointer to one; to see a pointer that was kept, take any of them.
 */
inline allocate(t, g) {
  atomic {
    begin();
    assert(!(in_section & BIT(me)) || allocates_in_lock);
#ifndef FAULT_A
    assert(!holds_lock || allocates_in_lock);
#endif
#ifdef ANY_FREE_CONTEXT
    if
    :: AVAILABLE(1) -> mine = 1
    :: AVAILABLE(2) -> mine = 2
    :: AVAILABLE(3) -> mine = 3
    :: AVAILABLE(4) -> mine = 4
    :: mine = NONE
    fi;
#else
    if
    :: mine = (AVAILABLE(1) -> 1 : (AVAILABLE(2) -> 2 : (AVAILABLE(3) -> 3 : (AVAILABLE(4) -> 4 : NONE))))
    :: mine = NONE
    fi;
#endif
    if
    :: mine != NONE ->
      life[mine] = CANDIDATE;
      count[mine] = 1;
      global[mine] = g;
      owner[mine] = t + 1
    :: else
    fi
  }
}

/* It was never published: nobody can see it, no grace period. */
inline free_candidate() {
  assert(life[mine] == CANDIDATE || double_free);
  life[mine] = FREE;
  count[mine] = 0;
  global[mine] = 0;
  owner[mine] = 0;
  mine = NONE
}

/* Drops a reference on c, which was loaded from t's slot in this read section, and ends the section. */
inline drop(c, t, of_session) {
  atomic {
    may_access(c);
    assert(count[c] > 0 || count_below_zero);
    count[c]--;
    last = (count[c] == 0);
    if
    :: last && life[c] == LIVE -> life[c] = DEAD
    :: else
    fi;
    if
    :: of_session && !exiting[t] -> sessions[t]--
    :: else
    fi;
    check_covered();
#ifdef DETACH_UNLINKS_OUTSIDE_SECTION
    section_end()
#else
    if
    :: last
    :: else -> section_end()
    fi
#endif
  }
  atomic {
    if
    :: last ->
#ifndef DETACH_UNLINKS_OUTSIDE_SECTION
      may_access_slot(t);
#endif
      if
      :: slot[t] == c -> slot[t] = NONE; retire(c); check_covered()
      :: else /* somebody replaced it, and has retired it */
      fi;
      section_end();
      last = 0
    :: else
    fi
  }
}

/* Makes the reference just taken on c the global one, or drops it where there is one. */
inline mark(t, c) {
  atomic { /* exchange */
    may_access(c);
#ifdef MARK_IS_STORED
    last = 0;
#else
    last = global[c];
#endif
    global[c] = 1;
    if
    :: mine != NONE -> free_candidate()
    :: else
    fi;
    if
    :: last
    :: else -> section_end()
    fi
  }
  if
  :: last -> drop(c, t, 0)
  :: else
  fi
}

/*
 * Publishes mine as t's context, or takes a reference on the one that is there. g: for the global users, who
 * hold one reference together, marked. ok: t has a context.
 */
inline attach(t, g) {
  ok = 0;
  old = NONE;
  atomic {
    section_begin();
    if
    :: known[t] != IN_TABLE -> free_candidate(); section_end()
    :: else
    fi
  }
  do
  :: mine == NONE -> break
  :: else ->
    atomic { /* compare-and-swap: old -> mine */
      section_begin();
      may_access_slot(t);
      if
      :: slot[t] == old ->
        if
        :: old != NONE -> assert(life[old] == DEAD || not_dead); retire(old)
        :: else
        fi;
        slot[t] = mine;
        life[mine] = LIVE;
        if
        :: !g && !exiting[t] -> sessions[t]++
        :: else
        fi;
        check_covered();
        old = mine;
        mine = NONE
      :: else -> old = slot[t]
      fi
    }
    if
    :: mine == NONE ->
      atomic {
#ifdef NO_SECOND_LOOK_AT_EXITING
        ok = 1;
#else
        ok = !exiting[t];
#endif
        if
        :: ok -> section_end()
        :: else
        fi
      }
      atomic {
        if
        :: !ok ->
          may_access_slot(t);
          if
          :: slot[t] == old -> slot[t] = NONE; retire(old)
          :: else /* exit has it, or somebody who dropped the last reference */
          fi;
          section_end()
        :: else
        fi
      }
    :: mine != NONE && old == NONE /* somebody removed the dead one first */
    :: mine != NONE && old != NONE ->
      atomic { /* a reference, unless there is none */
        may_access(old);
        if
#ifdef REFERENCE_AFTER_ZERO
        :: true ->
#else
        :: count[old] > 0 ->
#endif
          assert(count[old] > 0 || reference_after_zero);
          count[old]++;
          ok = 1;
          if
          :: !g && !exiting[t] -> sessions[t]++
          :: else
          fi;
          if
#ifdef ATTACH_LEAVES_UNMARKED
          :: true ->
#else
          :: !g ->
#endif
            free_candidate(); section_end()
          :: else
          fi
        :: else /* dead, and stays so: replace it */
        fi
      }
#ifdef ATTACH_REPLACES_OUTSIDE_SECTION
      if
      :: !ok -> section_end()
      :: else
      fi;
#endif
#ifdef ATTACH_WAITS_FOR_REMOVAL
      if
      :: !ok -> old = NONE
      :: else
      fi;
#endif
      if
      :: ok && mine != NONE -> mark(t, old)
      :: else
      fi
    fi
  od;
  old = NONE
}

/* Finds t in the table and loads its slot into old, in a new read section; none: NONE, and no section. */
inline load(t) {
  atomic {
    section_begin();
    old = (known[t] == IN_TABLE -> slot[t] : NONE);
    if
    :: old == NONE -> section_end()
    :: else
    fi
  }
}

inline detach(t) {
  atomic { begin(); load(t); assert(old != NONE || exiting[t] || lost_reference) }
#ifndef DETACH_IGNORES_EXITING
  atomic { /* what was loaded before the mark is seen is what the session attached to */
    if
    :: old != NONE && exiting[t] -> old = NONE; section_end()
    :: else
    fi
  }
#endif
  if
  :: old != NONE -> drop(old, t, 1); old = NONE
  :: else
  fi
}

/* ---- Global users ---- */

inline write_lock() {
  atomic { !flag -> flag = 1 }
  atomic { read_locks == 0 -> write_locked = 1; holds_lock = 1 }
}

inline write_unlock() {
  d_step { write_locked = 0; flag = 0; holds_lock = 0 }
}

/* Gives t a marked context. failed: no memory. */
inline visit(t) {
  visits++;
#ifndef FAULT_A
  assert(!holds_lock || write_section_grows);
#endif
  assert(visits <= TASKS || walk_not_linear);
  atomic {
    load(t);
    if
    :: exiting[t] && old != NONE -> old = NONE; section_end()
    :: else
    fi;
    wants_context = (known[t] == IN_TABLE && !exiting[t])
  }
  if
  :: wants_context && old != NONE ->
#ifdef MARK_BEFORE_REFERENCE
    atomic {
      may_access(old);
      wants_context = !global[old];
      global[old] = 1
    }
    atomic {
      may_access(old);
      if
      :: wants_context && count[old] > 0 -> count[old]++; wants_context = 0
      :: else
      fi;
      section_end()
    }
#else
    atomic { may_access(old); wants_context = !global[old]; section_end() }
#endif
  :: else
  fi;
  if
  :: wants_context ->
    allocate(t, 1);
    if
    :: mine == NONE -> failed = 1
    :: else -> attach(t, 1)
    fi;
#ifdef FAULT_C
    restarted = 1;
#endif
    wants_context = 0
  :: else
  fi;
  old = NONE
}

/* Takes the global mark and its reference from t. */
inline unvisit(t) {
  load(t);
  if
  :: old != NONE ->
    atomic { /* exchange */
      may_access(old);
      if
      :: global[old] -> global[old] = 0
      :: else -> old = NONE; section_end()
      fi
    }
    if
    :: old != NONE -> drop(old, t, 0); old = NONE
    :: else
    fi
  :: else
  fi
}

/* Forks that have looked at "wanted" finish before the lock is granted; later ones see it cleared. */
inline publish_unwanted() {
#ifdef UNWANTED_WITHOUT_LOCK
  atomic { wanted = 0 }
#else
  write_lock();
  wanted = 0;
#ifdef FAULT_B
  if
  :: failed
  :: else -> write_unlock()
  fi
#else
  write_unlock()
#endif
#endif
}

/* The child first: a child that comes later must do without the walk. */
#define WALK(at) (TASKS - 1 - (at))

/* ok: the caller is a user. failed: what was done must be undone, by leave_global. */
inline attach_global() {
  atomic { /* increment unless zero */
    begin();
    ok = 0;
    if
    :: users > 0 -> users++; ok = 1; covered++; check_covered()
    :: else
    fi
  }
  if
  :: ok
  :: else ->
#ifndef NO_TRANSITION_LOCK
    atomic { !transition -> transition = 1 }
#endif
    atomic {
      if
      :: users > 0 -> users++; ok = 1; covered++; check_covered(); transition = 0
      :: else
      fi
    }
    if
    :: ok
    :: else ->
      write_lock();
#ifdef COUNT_BEFORE_WALK
      users++;
#endif
      wanted = 1;
#ifdef FLAG_STAYS_UP
      d_step { write_locked = 0; holds_lock = 0 }
#elif !defined(WALK_IN_WRITE_LOCK)
      write_unlock();
#endif
      at = 0;
      do
      :: at < TASKS && !failed ->
        atomic { target = WALK(at); at++ }
        visit(target);
#ifdef FAULT_C
        if
        :: restarted -> restarted = 0; at = 0
        :: else
        fi
#endif
      :: else -> break
      od;
      at = 0;
      target = 0;
      visits = 0;
#ifdef FLAG_STAYS_UP
      flag = 0;
#endif
#ifdef WALK_IN_WRITE_LOCK
      write_unlock();
#endif
      if
#ifdef COUNT_BEFORE_WALK
      :: failed -> users--; ok = 0
      :: else -> atomic { ok = 1; covered++; check_covered(); transition = 0 }
#else
      :: failed -> ok = 0
      :: else -> atomic { users = 1; ok = 1; covered++; check_covered(); transition = 0 }
#endif
      fi
    fi
  fi
}

/* last: the caller was the last user, and calls leave_global. */
inline detach_global() {
  atomic { /* decrement unless it is 1 */
    begin();
    covered--;
    if
    :: users > 1 -> users--; last = 0
    :: else -> last = 1
    fi
  }
  if
  :: last ->
#ifndef NO_TRANSITION_LOCK
    atomic { !transition -> transition = 1 }
#endif
    atomic {
      users--;
      if
      :: users > 0 -> last = 0; transition = 0
      :: else
      fi
    }
  :: else
  fi
}

inline leave_global() {
  last = 0;
#ifndef UNDO_WHILE_WANTED
  publish_unwanted();
#endif
  at = 0;
  do
  :: at < TASKS -> atomic { target = WALK(at); at++ }; unvisit(target)
  :: else -> break
  od;
  at = 0;
  target = 0;
#ifdef UNDO_WHILE_WANTED
  publish_unwanted();
#endif
  atomic { failed = 0; ok = 0; unknown[CHILD] = 0; check_no_trace(); transition = 0 }
}

/* ---- Tasks ---- */

#ifdef FORK_LOOKS_AT_COUNT
#define SHOULD_ATTACH (users > 0)
#else
#define SHOULD_ATTACH wanted
#endif

inline fork_insert(t) {
  atomic { begin(); known[t] = IN_TABLE }
}

inline fork_attach(t) {
  if
  :: ok ->
#ifdef FORK_ALLOCATES_IN_LOCK
    atomic { !flag -> read_locks++; holds_lock = 1 }
#endif
    allocate(t, 1);
    if
    :: mine == NONE -> unknown[t] = 1
    :: else ->
#if !defined(FORK_WITHOUT_LOCK) && !defined(FORK_ALLOCATES_IN_LOCK)
      atomic {
        if
        :: !flag -> read_locks++; holds_lock = 1
        :: else /* turned away: the walk that follows meets the child, or nobody needs its context */
        fi
      }
#endif
      atomic {
#ifdef FORK_LOOKS_ONCE
        ok = 1;
#else
        ok = SHOULD_ATTACH;
#endif
#ifndef FORK_WITHOUT_LOCK
        ok = ok && holds_lock;
#endif
        if
        :: !ok -> free_candidate()
        :: else
        fi
      }
      if
      :: ok -> attach(t, 1)
      :: else
      fi;
#ifndef FORK_WITHOUT_LOCK
      atomic { read_locks = read_locks - holds_lock; holds_lock = 0 }
#endif
    fi
  :: else
  fi
}

inline fork(t) {
#ifdef FORK_LOOKS_BEFORE_INSERTING
  ok = SHOULD_ATTACH;
  fork_insert(t);
#else
  fork_insert(t);
  ok = SHOULD_ATTACH;
#endif
  fork_attach(t);
  atomic { ready[t] = 1; check_covered() }
}

inline exit(t) {
#ifdef FAULT_A
  assert(!write_locked || exit_waits);
#endif
#ifdef EXIT_LOOKS_FIRST
  atomic { begin(); old = slot[t] }
#endif
  atomic { begin(); exiting[t] = 1; sessions[t] = 0 }
#ifdef EXIT_DROPS_ONE
  load(t);
  if
  :: old != NONE -> drop(old, t, 0); old = NONE
  :: else
  fi;
#else
#ifdef EXIT_LOOKS_FIRST
  if
  :: old == NONE -> goto unlinked
  :: else
  fi;
#endif
  atomic { /* exchange */
    old = slot[t];
    if
    :: old != NONE -> slot[t] = NONE; retire(old); old = NONE
    :: else
    fi
  }
#endif
#ifdef EXIT_LOOKS_FIRST
unlinked:
#endif
  atomic {
    known[t] = REMOVED;
    sees_slot[0] = sees_slot[0] | (in_section & BIT(0) -> BIT(t) : 0);
    sees_slot[1] = sees_slot[1] | (in_section & BIT(1) -> BIT(t) : 0);
    sees_slot[2] = sees_slot[2] | (in_section & BIT(2) -> BIT(t) : 0);
    sees_slot[3] = sees_slot[3] | (in_section & BIT(3) -> BIT(t) : 0)
  }
}

/* A sample of t: its history is on show, or none. */
inline look_up(t) {
  load(t);
  atomic {
    if
    :: old != NONE -> may_access(old); window = owner[old]; section_end()
#ifdef FAULT_E
    :: else
#else
    :: else -> window = 0
#endif
    fi;
    old = NONE;
    assert(window == 0 || window == t + 1 || foreign_history)
  }
}

/* ---- Actors ---- */

byte actors;

#define SESSION 0        /* attach to the parent or the child, detach */
#define DETACH 1         /* detach from the parent: attached from the start */
#define GLOBAL_SESSION 2 /* attach_global, detach_global */
#define DETACH_GLOBAL 3  /* detach_global: a user from the start */
#define FORK 4           /* fork the child; the child exits */
#define EXIT 5           /* the parent exits */
#define SAMPLES 6        /* of the bystander, of the parent */
#define SCRIPTS 7

proctype actor(byte me; byte script) {
  byte mine, old, at, target, visits;
  byte window; /* 1 + task whose branches are on show; 0: unknown history */
  bit under_way, ok, last, wants_context, failed, holds_lock, restarted;

  if
  :: script == SESSION || script == DETACH ->
    target = PARENT;
    if
    :: script == SESSION ->
      if
      :: target = PARENT
      :: target = CHILD
      fi;
      allocate(target, 0);
      if
      :: mine == NONE -> ok = 0
      :: else -> attach(target, 0)
      fi;
      end();
#ifdef FAULT_D
      ok = 1
#endif
    :: else -> ok = 1
    fi;
    if
    :: ok -> detach(target)
    :: else
    fi
  :: script == GLOBAL_SESSION || script == DETACH_GLOBAL ->
    if
    :: script == GLOBAL_SESSION ->
      attach_global();
      if
      :: ok -> end()
      :: else
      fi
    :: else -> ok = 1
    fi;
    if
    :: ok -> detach_global()
    :: else
    fi;
    if
    :: failed || last -> leave_global()
    :: else
    fi
  :: script == FORK || script == EXIT ->
    if
    :: script == FORK -> target = CHILD; fork(CHILD); end()
    :: else -> target = PARENT
    fi;
    exit(target)
  :: script == SAMPLES ->
    do
    :: at < 2 -> target = (at == 0 -> BYSTANDER : PARENT); look_up(target); at++
    :: else -> break
    od
  fi;
  atomic {
    end();
    target = 0;
    at = 0;
    ok = 0;
    last = 0;
    window = 0;
    actors--
  }
}

/* SESSION ... last, or what the command line says. */
inline choose(script, last) {
  script = 0;
  do
  :: script < last -> script++
  :: break
  od
}

#define COUNT(s) ((first == s) + (second == s) + (third == s) + (fourth == s))

init {
  byte first, second, third, fourth, t;
  atomic {
#ifdef FIRST
    first = FIRST;
    second = SECOND;
    third = THIRD;
#ifdef FOURTH
    fourth = FOURTH;
#else
    fourth = SCRIPTS;
#endif
#else
    choose(first, SCRIPTS - 1);
    choose(second, first);
    choose(third, second);
    fourth = SCRIPTS;
#endif
    /* One of each of these; the rest any number of times. */
    if
    :: COUNT(FORK) <= 1 && COUNT(EXIT) <= 1 && COUNT(SAMPLES) <= 1
    :: else -> goto nothing
    fi;
    actors = (fourth == SCRIPTS -> 3 : 4);
    sessions[PARENT] = COUNT(DETACH);
    users = COUNT(DETACH_GLOBAL);
    covered = users;
    wanted = (users > 0);
    t = 0;
    do
    :: t < CHILD ->
      known[t] = IN_TABLE;
      ready[t] = 1;
      if
      :: sessions[t] > 0 || wanted ->
        slot[t] = t + 1;
        life[t + 1] = LIVE;
        owner[t + 1] = t + 1;
        global[t + 1] = wanted;
        count[t + 1] = sessions[t] + wanted
      :: else
      fi;
      t++
    :: else -> break
    od;
    t = 0;
    run actor(0, first);
    run actor(1, second);
    run actor(2, third);
    if
    :: fourth != SCRIPTS -> run actor(3, fourth)
    :: else
    fi;
    first = 0;
    second = 0;
    third = 0;
    fourth = 0
  }
  atomic { /* after the last user: nothing lives */
    actors == 0;
    t = 1;
    do
    :: t <= POOL -> assert(AVAILABLE(t) || contexts_left); t++
    :: else -> break
    od;
    assert((users == 0 && !wanted && !transition) || contexts_left);
#ifndef FAULT_B
    assert((!write_locked && read_locks == 0) || contexts_left)
#endif
  }
nothing:
  skip
}
