# fish completion for holdfast(1)
set -l commands run exec resume step status log show diff land undo queue approve deny pause cancel fork agency policy tool trust doctor verify fsck export gc daemon
complete -c holdfast -f -n "not __fish_seen_subcommand_from $commands" -a "$commands"
complete -c holdfast -l state -r -d 'state directory'
complete -c holdfast -l json -d 'machine-readable'
complete -c holdfast -l plain -d 'no colours'
complete -c holdfast -l no-input -d 'never ask'
complete -c holdfast -n '__fish_seen_subcommand_from run exec' -l policy -r -a 'base offline coding'
complete -c holdfast -n '__fish_seen_subcommand_from run exec' -l workspace -r -a '(__fish_complete_directories)'
complete -c holdfast -n '__fish_seen_subcommand_from run exec' -l agency -x -a 'observe draft assist trusted autonomous'
complete -c holdfast -n '__fish_seen_subcommand_from run' -l detach
complete -c holdfast -n '__fish_seen_subcommand_from run' -F
complete -c holdfast -n '__fish_seen_subcommand_from exec' -l land
complete -c holdfast -n '__fish_seen_subcommand_from undo' -l effect -x
complete -c holdfast -n '__fish_seen_subcommand_from policy' -x -a 'check explain test learn diff schema'
complete -c holdfast -n '__fish_seen_subcommand_from approve' -l as -x -a 'mine theirs file= retry fail accept fork'
complete -c holdfast -n '__fish_seen_subcommand_from queue' -s i -d 'on the terminal'
complete -c holdfast -n '__fish_seen_subcommand_from queue' -l stats -d 'how attention was spent'
complete -c holdfast -n '__fish_seen_subcommand_from approve deny' -l sign -r -d 'SSH key that signs the vote'
complete -c holdfast -n '__fish_seen_subcommand_from approve' -l grant -x -d 'FIELD=MATCH: lets the next ones too'
complete -c holdfast -n '__fish_seen_subcommand_from deny' -l rule -d 'the whole rule, for the run'
