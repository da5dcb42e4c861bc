/* A tid that is used again: what task_context.pml leaves out. Two tasks have the tid one after the other and share its
 * place, one word that holds a key and a context (daemon/task_place). The first exits while sessions attach to it, the
 * second is added meanwhile; samples of both are looked up at any time.
 *
 * Each step is one access to shared memory. Contexts are not used again here: grace periods are the other model's.
 */
#define CONTEXTS 2
#define NONE 0 /* contexts are 1 ... CONTEXTS */
#define FIRST 1
#define SECOND 2

#define FREE 0
#define ALLOCATED 1
#define RETIRED 2

/* The names that assertions go by. */
hidden byte task_not_covered, lost_reference, foreign_history, double_retire, contexts_left;

#ifdef KEYS_ARE_EQUAL /* the key is the start time, and the first task is told again */
#define KEY(task) FIRST
#else
#define KEY(task) (task)
#endif

/* The word. */
byte key = FIRST;
byte number = NONE;

bit live[3];
bit exiting[3];
byte latest = FIRST;

byte state[CONTEXTS + 1];
byte count[CONTEXTS + 1];
byte owner[CONTEXTS + 1];
byte allocated = 0;
byte running = 0;

inline retire(c) {
  assert(state[c] == ALLOCATED || double_retire);
  state[c] = RETIRED
}

/* DropUnderRcu */
inline drop(task, c) {
  atomic {
    last = 0;
    if
    :: count[c] > 0 -> count[c]--; last = (count[c] == 0)
    :: else /* killed */
    fi
  }
  atomic {
    if
    :: last && key == KEY(task) && number == c -> number = NONE; retire(c)
    :: else
    fi
  }
}

/* AttachUnderRcu with a candidate, then DetachTask. */
proctype session(byte task) {
  byte mine, seen_key, seen;
  bit ok, last;

  atomic {
    live[task] == 1;
    allocated++;
    mine = allocated;
    state[mine] = ALLOCATED;
    count[mine] = 1;
    owner[mine] = task;
    if
    :: exiting[task] -> goto gone
    :: else
    fi
  }
  atomic { seen_key = key; seen = number }
  do
  :: atomic {
      if
      :: seen_key != KEY(task) ->
        assert(exiting[task] || task_not_covered);
        goto gone
      :: else
      fi;
      ok = 0;
      if
      :: seen != NONE && count[seen] > 0 -> count[seen]++; ok = 1
      :: else
      fi
    }
    if
    :: ok -> break
    :: else
    fi;
    atomic { /* compare-and-swap of the whole word */
      if
      :: key == seen_key && number == seen ->
        if
        :: seen != NONE -> retire(seen)
        :: else
        fi;
        number = mine;
        seen = mine;
        mine = NONE;
        ok = 1
      :: else -> seen_key = key; seen = number
      fi
    }
    if
    :: ok -> break
    :: else
    fi
  od;
  atomic { /* C */
    if
    :: exiting[task] -> ok = 0
    :: else
    fi
  }
  if
  :: !ok -> drop(task, seen); goto gone
  :: else
  fi;
  /* Attached. DetachTask: */
  atomic {
    assert(exiting[task] || (key == KEY(task) && number == seen) || lost_reference);
    if
    :: !exiting[task] && owner[seen] != task -> assert(foreign_history)
    :: else
    fi;
    if
    :: exiting[task] -> seen = NONE
    :: else
    fi
  }
  if
  :: seen != NONE -> drop(task, seen)
  :: else
  fi;
gone:
  atomic {
    if
    :: mine != NONE -> state[mine] = FREE
    :: else
    fi;
    mine = NONE;
    seen = NONE;
    seen_key = 0;
    ok = 0;
    last = 0;
    running--
  }
}

/* ExitTask */
inline exit(task) {
  exiting[task] = 1; /* D */
  atomic { seen_key = key; seen = number }
  do
#ifdef EXIT_IGNORES_KEY
  :: seen != NONE ->
#else
  :: seen_key == KEY(task) && seen != NONE ->
#endif
    atomic {
      if
      :: key == seen_key && number == seen -> number = NONE; count[seen] = 0; retire(seen); seen = NONE
      :: else -> seen_key = key; seen = number
      fi
    }
  :: else -> break
  od
}

proctype exits() {
  byte seen_key, seen;
  exit(FIRST);
  running--
}

/* Link of the second task, once the first is not live; at the end its exit. */
proctype link() {
  byte seen_key, seen;
  exiting[FIRST] == 1;
#ifdef LIVE_BEFORE_PLACE
  live[SECOND] = 1;
#endif
  latest = SECOND; /* E */
  atomic {
    seen = number;
    key = KEY(SECOND);
    number = NONE;
#ifndef LINK_LEAVES_CONTEXT
    if
    :: seen != NONE -> count[seen] = 0; retire(seen)
    :: else
    fi
#endif
  }
  live[SECOND] = 1;
  running--;
  running == 0; /* all sessions are gone */
  exit(SECOND);
  seen = 1;
  do
  :: seen <= CONTEXTS -> assert(state[seen] != ALLOCATED || contexts_left); seen++
  :: else -> break
  od
}

/* Find. A sample of the second task comes after that was added; one of the first at any time, and in the step in which
 * the second started, too: then the key does not tell. */
proctype sample(byte task) {
  byte seen_key, seen;
  if
  :: task == SECOND -> live[SECOND] == 1
  :: else
  fi;
  atomic { seen_key = key; seen = number }
  atomic {
    if
    :: seen != NONE && task == SECOND -> assert(owner[seen] == SECOND || foreign_history)
    :: seen != NONE && task == FIRST ->
      /* Not later than the key: look at the latest slot, which must be the key's and not later than the sample. */
      if
      :: latest == FIRST && seen_key == FIRST -> assert(owner[seen] == FIRST || foreign_history)
      :: else
      fi
    :: else
    fi;
    seen = NONE;
    seen_key = 0;
    running--
  }
}

init {
  atomic {
    live[FIRST] = 1;
    running = 5;
    run session(FIRST);
    if
    :: run session(FIRST)
    :: run session(SECOND)
    fi;
    run exits();
    run link();
    if
    :: run sample(FIRST)
    :: run sample(SECOND)
    fi
  }
}
